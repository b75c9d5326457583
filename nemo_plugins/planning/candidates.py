"""The students that a search compares, by name: the paper's table or the points of a grid under a budget. Arithmetic only."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import BudgetConfig, Recipe, SizesConfig
from nemo_plugins.configs.store import CONF, options
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import budget, checks
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.runs import workers
from nemo_plugins.runs.errors import UserError

SHORT = {"num_layers": "layers", "ffn_hidden_size": "ffn", "hidden_size": "hidden", "num_attention_heads": "heads"}


@dataclass(frozen=True)
class Candidate:
    """A student to try; its name is that of its run below the search's."""

    name: str
    student: Architecture

    def sizes(self, teacher: Architecture) -> dict[str, int]:
        """What differs from the teacher."""
        return {key: getattr(self.student, key) for key in SHORT if getattr(self.student, key) != getattr(teacher, key)}


@dataclass(frozen=True)
class Choice:
    """The candidates, and how many points of the grid went for which reason."""

    candidates: list[Candidate]
    thrown_out: dict[str, int]


def choose(cfg: Recipe) -> Choice:
    """The candidates of `search.candidates`, the largest first.

    Raises:
        UserError: an unknown kind or name, a table for another model, a budget that no point meets.
    """
    teacher = Architecture.from_config(cfg.model)
    kinds = {"grid": _grid, "paper": _paper}
    if cfg.search.candidates not in kinds:
        raise UserError(f"search.candidates={cfg.search.candidates}", f"expected one of: {', '.join(kinds)}")
    at_least(1, cfg.search, "search", "limit", "keep")
    if not 0 <= cfg.search.slack < 1:
        raise UserError(f"search.slack={cfg.search.slack}: expected 0 to 1")
    made = kinds[cfg.search.candidates](cfg, teacher)
    if not cfg.search.only:
        return made
    known = {candidate.name: candidate for candidate in made.candidates}
    unknown = [name for name in cfg.search.only if name not in known]
    if unknown:
        raise UserError(f"search.only: there is no candidate {unknown[0]}", f"expected some of: {', '.join(known)}")
    return replace(made, candidates=[known[name] for name in cfg.search.only])


def budget_of(cfg: Recipe) -> BudgetConfig:
    """The budget of the grid; where none is given, the parameters of the recommended student."""
    asked = cfg.prune.budget
    if budget.is_given(asked):
        return asked
    student = Architecture.from_config(cfg.model).with_sizes(budget.recommended(cfg.model))
    return replace(asked, parameters=float(student.parameters(asked.count.value)))


def share(cfg: Recipe) -> tuple[int, int] | None:
    """This process's part of a job array and the number of parts: `search.part` and `.parts`, else Slurm's; None: all.

    Raises:
        UserError: one without the other, or a part that there is not.
    """
    part, parts = cfg.search.part, cfg.search.parts
    if part is None and parts is None and "SLURM_ARRAY_TASK_ID" in os.environ:
        part = int(os.environ["SLURM_ARRAY_TASK_ID"]) - int(os.environ.get("SLURM_ARRAY_TASK_MIN") or 0)
        parts = int(os.environ.get("SLURM_ARRAY_TASK_COUNT") or 1)
    if part is None and parts is None:
        return None
    if part is None or parts is None or not 0 <= part < parts:
        raise UserError(f"search.part={part}, search.parts={parts}", "expected both, and 0 <= part < parts")
    return part, parts


def distils(cfg: Recipe) -> bool:
    """Whether this process distils the best: it was asked to, and is neither a part nor one process of a job.

    In a job the processes are given, and a distillation is a job of its own: the search then prints its command.
    """
    return cfg.search.distill_steps > 0 and workers.world() is None and share(cfg) is None


def stage(cfg: Recipe) -> str:
    """Folder of the search, or of one part of it, below the run."""
    mine = share(cfg)
    return f"search-part-{mine[0]}-of-{mine[1]}" if mine else "search"


def mine(cfg: Recipe, candidates: list[Candidate]) -> list[Candidate]:
    """Those of this process's part."""
    part = share(cfg)
    return candidates[part[0] :: part[1]] if part else candidates


def _paper(cfg: Recipe, teacher: Architecture) -> Choice:
    found, models = [], set()
    for name in options("experiment"):
        if not name.startswith("exp_"):
            continue
        written = OmegaConf.load(CONF / "experiment" / f"{name}.yaml")
        models |= set(written.experiment.models)
        if cfg.model.name in written.experiment.models:
            prune = replace(cfg.prune, **{**vars(SizesConfig()), "drop_layers": None, **OmegaConf.to_container(written.prune)})
            found.append(Candidate(name, checks.student(replace(cfg, prune=prune))))
    if not found:
        raise UserError(
            f"search.candidates=paper is a table for {', '.join(sorted(models))}, not for {cfg.model.name}",
            "expected search.candidates=grid",
        )
    return Choice(found, {})


def _grid(cfg: Recipe, teacher: Architecture) -> Choice:
    asked = budget_of(cfg)
    points = budget.grid(teacher, asked.grid, list(asked.frozen))
    fitting = budget.admissible(points, teacher, asked)
    smallest = (1 - cfg.search.slack) * max(point.parameters() for point in fitting)
    near = sorted((point for point in fitting if point.parameters() >= smallest), key=lambda point: -point.parameters())
    kept = near[: cfg.search.limit]
    thrown_out = {
        "above the budget": len(points) - len(fitting),
        f"more than {cfg.search.slack:.0%} smaller than the largest (search.slack)": len(fitting) - len(near),
        f"beyond search.limit={cfg.search.limit}": len(near) - len(kept),
    }
    return Choice([Candidate(_name(teacher, point), point) for point in kept], thrown_out)


def _name(teacher: Architecture, point: Architecture) -> str:
    """`layers6-ffn768`: what differs from the teacher."""
    sizes = Candidate("", point).sizes(teacher)
    return "-".join(f"{SHORT[key]}{value}" for key, value in sizes.items())
