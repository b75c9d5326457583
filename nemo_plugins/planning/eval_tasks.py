"""Whether the tasks of a suite are defined where they should be, by the names in their files; lm-eval is not imported."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from nemo_plugins.configs.schema import EvalConfig, Origin, TaskConfig
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

OURS = REPOSITORY / "nemo_plugins" / "evaluation" / "tasks"
NAMES = re.compile(r"""^["']?(?:task|group)["']?\s*:\s*["']?([\w.:-]+)["']?\s*(?:\#.*)?$""", re.MULTILINE)


def folder(cfg: EvalConfig, task: TaskConfig) -> Path | None:
    """Where a task is defined; None: eval.task_path, which it needs, is not given."""
    if task.origin in (Origin.ours, Origin.ours_from_hub):
        return OURS / task.folder
    if task.origin is Origin.upstream:
        return upstream() / task.folder
    return paths.resolve(cfg.task_path) / task.folder if cfg.task_path else None


def upstream() -> Path:
    """The task folder of the installed lm-eval.

    Raises:
        UserError: lm-eval is not installed.
    """
    found = find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        raise UserError("lm-eval is not installed", "expected the environment of requirements.lock: ./minitron setup")
    return Path(found.submodule_search_locations[0]) / "tasks"


def file_of(where: Path, name: str) -> Path:
    """The file of a folder that defines a task.

    Raises:
        UserError: none does.
    """
    for file in sorted(where.rglob("*.yaml")):
        if name in NAMES.findall(file.read_text("utf-8", "replace")):
            return file
    raise UserError(f"no file of {where} defines {name}")


@cache
def names(where: Path) -> frozenset[str]:
    """Names of the tasks and groups that the files of a folder define."""
    return frozenset(name for file in where.rglob("*.yaml") for name in NAMES.findall(file.read_text("utf-8", "replace")))


def chosen(cfg: EvalConfig) -> dict[str, TaskConfig]:
    """The tasks of the suite, or those of eval.only.

    Raises:
        UserError: `only` names one that the suite has not.
    """
    if unknown := [name for name in cfg.only if name not in cfg.tasks]:
        raise UserError(f"eval.only: {', '.join(unknown)} not in eval={cfg.suite}", f"expected some of: {', '.join(cfg.tasks)}")
    return {name: task for name, task in cfg.tasks.items() if not cfg.only or name in cfg.only}


def lacking(cfg: EvalConfig) -> dict[str, str]:
    """Tasks of the suite that are not defined where they should be, each with where that is."""
    found = {}
    for name, task in chosen(cfg).items():
        where = folder(cfg, task)
        if where is None:
            found[name] = "eval.task_path is not given"
        elif not where.is_dir():
            found[name] = f"there is no folder {where}"
        elif name not in names(where):
            found[name] = f"no file of {where} defines it"
    return found


def check(cfg: EvalConfig) -> None:
    """All tasks of the suite are defined.

    Raises:
        UserError: some are not; the message names them, and how to get them or do without.
    """
    found = lacking(cfg)
    if not found:
        return
    lines = [f"  {name}: {why}" for name, why in found.items()]
    get = [f"get them: {' '.join(cfg.task_source.split())}"] if cfg.task_source else []
    raise UserError(
        f"eval={cfg.suite}: {len(found)} of {len(chosen(cfg))} tasks are not here", *lines, *get,
        "or leave them out: eval.missing=skip, or eval.only=[<task>]",
    )  # fmt: skip
