"""Every stage, declared once, in the order in which a run may have them. Imports none of their code."""

from __future__ import annotations

from nemo_plugins.runs.stages.preparing import PREPARING
from nemo_plugins.runs.stages.results import RESULTS
from nemo_plugins.runs.stages.stage import CORRECTED, SlurmJob, Stage, Student
from nemo_plugins.runs.stages.training import TRAINING

STAGES = (*PREPARING, *TRAINING, *RESULTS)


def by_name() -> dict[str, Stage]:
    """The stages by the name of their recipe."""
    return {stage.name: stage for stage in STAGES}


def students() -> tuple[str, ...]:
    """Stages that leave a student, latest in a chain first."""
    return tuple(stage.name for stage in reversed(STAGES) if stage.student)


def checkpoints() -> tuple[str, ...]:
    """Folders below a run that may hold a checkpoint, latest in a chain first; a student's comes before any other."""
    ranked = sorted(reversed(STAGES), key=lambda stage: stage.student is None)
    return tuple(folder for stage in ranked for folder in reversed(stage.left_in))


def sections() -> tuple[str, ...]:
    """Sections of the configuration in the order in which stages read them."""
    return tuple(dict.fromkeys(stage.of_config for stage in STAGES if stage.of_config))
