"""What a chain of stages would do: each of its stages composed and validated as it will be, before the first one starts."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import Recipe, StageConfig
from nemo_plugins.configs.store import CONF, options
from nemo_plugins.planning import chain_screen, checks
from nemo_plugins.planning.chain_screen import Part
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.command_line import LAYOUT, default_name, key_of, line, override
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name

HANDED_ON_NOT = ("run.name", "run.stage", "dry_run", "plan.commands")  # the chain gives each stage its own


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
    """The stages of the experiment that have what they need.

    The user's own overrides come first and the stage's after them, but for the layout of a training.

    Args:
        arguments: the user's overrides; default: this process's command line.
    Raises:
        UserError: no experiment with stages, an unknown recipe, a name that is not `stage` or `candidate/stage`.
    """
    if not cfg.experiment.stages:
        raise UserError(
            f"experiment={cfg.experiment.name or 'null'} has no stages",
            f"expected an experiment that is a chain: {', '.join(_chains(cfg.model.name))}",
        )
    given = sys.argv[1:] if arguments is None else arguments
    own = [word for word in given if not word.startswith("-") and key_of(word) not in HANDED_ON_NOT]
    gone = left_out(cfg)
    return [_link(cfg, stage, own) for stage in cfg.experiment.stages if stage not in gone]


def left_out(cfg: Recipe) -> list[StageConfig]:
    """Stages of the experiment for which no data are given, and those that come after such alone."""
    found: list[StageConfig] = []
    for stage in cfg.experiment.stages:
        gone = {one.name for one in found}
        if stage.needs and not any(_value(cfg, key) for key in stage.needs) or stage.after and gone.issuperset(stage.after):
            found.append(stage)
    return found


def _value(cfg: Recipe, key: str) -> object:
    try:
        return functools.reduce(getattr, key.split("."), cfg)
    except AttributeError:
        raise UserError(f"experiment.stages: needs {key}, which is no key", "expected e.g. sft.data") from None


def _link(cfg: Recipe, stage: StageConfig, own: list[str]) -> Link:
    known = [one.name for one in by_name().values() if one.in_chain]
    if stage.recipe not in known:
        raise UserError(f"experiment.stages: {stage.name} wants recipe={stage.recipe}", f"expected one of: {', '.join(known)}")
    candidate, _, name = stage.name.rpartition("/")
    if "/" in candidate or not name:
        raise UserError(f"experiment.stages: name={stage.name}", "expected <stage> or <candidate>/<stage>")
    run = f"{cfg.run.name}/{candidate}" if candidate else cfg.run.name
    split = {f"platform.{key}" for key in LAYOUT} if by_name()[stage.recipe].processes != "one" else set()
    given = split.intersection(map(key_of, own))
    theirs = [word for word in stage.overrides if key_of(word) not in given]
    return Link(stage.name, stage.recipe, stage.what, [*own, *theirs, override("run.name", run), f"run.stage={name}"])


def plan(cfg: Recipe) -> Plan:
    """Validate every stage. Raises UserError naming the stage and the key."""
    chain = links(cfg)
    made = Plan(f"{cfg.run.name}: {len(chain)} stages in {paths.run_root(cfg)}")
    imports = any(link.name == "convert-import" for link in chain)
    parts: list[Part] = []
    for link in chain:
        stage = compose(link.overrides)
        try:
            part = by_name()[link.recipe].planned(stage)
        except UserError as error:
            raise UserError(f"stage {link.name}: {error}") from None
        done = not stage.force and (paths.run_root(stage) / str(stage.run.stage) / "summary.json").is_file()
        made.writes += 0 if done else part.writes
        made.warnings += [f"{link.name}: {warning}" for warning in part.warnings if "/" not in link.name]
        # what an earlier stage of the chain will leave is not missing
        part.missing = [one for one in part.missing if one.kind != "earlier" and not (one.kind == "teacher" and imports)]
        made.missing += [one for one in part.missing if one.kind != "disk" and one not in made.missing]
        parts.append(Part(link.name, link.recipe, part, done))
    made.need("disk", checks.disk, paths.run_root(cfg), made.writes)  # each stage's files stay where the next ones come
    detail = _detail(chain, default_name(cfg.model.name, cfg.experiment.name))
    made.screen = chain_screen.screen(cfg, made, parts, left_out(cfg), detail)
    if cfg.plan.commands:
        commands = [(number, link.command) for number, link in enumerate(chain, 1)]
        made.screen.append(Table("Commands, each can be run by itself", commands, lines=True))
    return made


def _detail(chain: list[Link], default: str) -> str:
    """The command that plans one stage in full: the distillation, else the last that the chain has."""
    link = next((link for link in chain if link.recipe == "distill"), chain[-1])
    derived = {"run.stage": link.recipe, "run.name": default}  # what the recipe takes by itself
    words = [word for word in link.overrides if word.partition("=")[2] != derived.get(key_of(word))]
    return line(link.recipe, [*words, "dry_run=true"])


def _chains(model: str) -> list[str]:
    """Experiments that are a chain of this model."""
    files = {name: OmegaConf.load(CONF / "experiment" / f"{name}.yaml").experiment for name in options("experiment")}
    return [name for name, file in files.items() if "stages" in file and model in file.get("models", [model])]
