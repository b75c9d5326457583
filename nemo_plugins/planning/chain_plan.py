"""What a chain of stages would do: each of its stages composed and validated as it will be, before the first one starts."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from nemo_plugins.configs.schema import Recipe, StageConfig
from nemo_plugins.configs.store import options
from nemo_plugins.planning import checks
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import output, paths
from nemo_plugins.runs.command_line import key_of, line, override
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name

HANDED_ON_NOT = ("run.name", "run.stage", "dry_run")  # the chain gives each stage its own


@dataclass(frozen=True)
class Link:
    """One stage of the chain: its folder below the run, its recipe and the overrides that it is started with."""

    name: str
    recipe: str
    what: str
    overrides: list[str]

    @property
    def command(self) -> str:
        return line(self.recipe, self.overrides)


def links(cfg: Recipe, arguments: list[str] | None = None) -> list[Link]:
    """The stages of the experiment: the user's own overrides first, the stage's after them.

    Args:
        arguments: the user's overrides; default: this process's command line.
    Raises:
        UserError: no experiment with stages, an unknown recipe, a name that is not `stage` or `candidate/stage`.
    """
    if not cfg.experiment.stages:
        raise UserError(
            f"experiment={cfg.experiment.name or 'null'} has no stages",
            f"expected an experiment that is a chain: {', '.join(_chains())}",
        )
    given = sys.argv[1:] if arguments is None else arguments
    own = [word for word in given if not word.startswith("-") and key_of(word) not in HANDED_ON_NOT]
    return [_link(cfg, stage, own) for stage in cfg.experiment.stages]


def _link(cfg: Recipe, stage: StageConfig, own: list[str]) -> Link:
    known = [one.name for one in by_name().values() if one.in_chain]
    if stage.recipe not in known:
        raise UserError(f"experiment.stages: {stage.name} wants recipe={stage.recipe}", f"expected one of: {', '.join(known)}")
    candidate, _, name = stage.name.rpartition("/")
    if "/" in candidate or not name:
        raise UserError(f"experiment.stages: name={stage.name}", "expected <stage> or <candidate>/<stage>")
    run = f"{cfg.run.name}/{candidate}" if candidate else cfg.run.name
    return Link(stage.name, stage.recipe, stage.what, [*own, *stage.overrides, override("run.name", run), f"run.stage={name}"])


def plan(cfg: Recipe) -> Plan:
    """Validate every stage. Raises UserError naming the stage and the key."""
    made = Plan(f"{cfg.run.name}: {len(cfg.experiment.stages)} stages in {paths.run_root(cfg)}")
    rows, commands, writes, times = [], [], 0.0, []
    imports = any(stage.name == "convert-import" for stage in cfg.experiment.stages)
    for number, link in enumerate(links(cfg), 1):
        stage = compose(link.overrides)
        try:
            part = by_name()[link.recipe].planned(stage)
        except UserError as error:
            raise UserError(f"stage {link.name}: {error}") from None
        if stage.force or not (paths.run_root(stage) / stage.run.stage / "summary.json").is_file():
            writes += part.writes
            times += [] if part.seconds is None else [part.seconds]
        rows.append((link.name, part.title, part.sizes, link.what))
        commands.append((number, link.command))
        if number == 1 or link.recipe in ("prune", "distill"):
            made.tables += [
                table for table in part.tables if table.title == "Sizes" and "prune" in link.name and "/" not in link.name
            ]
            made.tables += [table for table in part.tables if table.title.startswith("Memory") and link.name == "distill"]
        made.warnings += [f"{link.name}: {warning}" for warning in part.warnings if "/" not in link.name]
        for missing in part.missing:
            # what an earlier stage of the chain will leave is not missing
            from_chain = missing.kind == "earlier" or (missing.kind == "teacher" and imports)
            if not from_chain and missing.kind != "disk" and missing not in made.missing:
                made.missing.append(missing)
    made.writes = writes
    made.need("disk", lambda: checks.disk(paths.run_root(cfg), writes))  # each stage's files stay where the next ones come
    if times:
        made.title += f"; at least {output.duration(sum(times))} on this CPU (estimate, of {len(times)} stages)"
    made.tables.insert(0, Table("Stages", rows, ["stage", "does", "sizes", "what for"], numbers=False))
    made.tables.append(Table("Commands, each can be run by itself", commands, lines=True))
    return made


def _chains() -> list[str]:
    from omegaconf import OmegaConf

    from nemo_plugins.configs.store import CONF

    files = {name: OmegaConf.load(CONF / "experiment" / f"{name}.yaml") for name in options("experiment")}
    return [name for name, config in files.items() if "stages" in config.experiment]
