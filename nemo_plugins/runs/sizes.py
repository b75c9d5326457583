"""The sizes of the model that a run trains."""

from __future__ import annotations

import dataclasses

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import PruneConfig, Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks
from nemo_plugins.runs import paths


def student(cfg: Recipe) -> Architecture:
    """The student that the run's prune stage left, else the one that this configuration would prune to."""
    folder = paths.find(cfg, "prune")
    if folder and (folder / "config.yaml").is_file() and not cfg.student.path:
        pruned = OmegaConf.merge(OmegaConf.structured(PruneConfig), OmegaConf.load(folder / "config.yaml").prune)
        return checks.student(dataclasses.replace(cfg, prune=OmegaConf.to_object(pruned)))
    return checks.student(cfg)
