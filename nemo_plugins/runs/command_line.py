"""Commands as a user types them: overrides in Hydra's grammar, words in the shell's. Whatever prints one makes it here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.configs.store import CONF, options
from nemo_plugins.runs.stages import by_name, sections

PROCESSES = ("devices", "nodes", "tensor_parallel", "pipeline_parallel", "context_parallel")  # of `platform`
LAYOUT = ("tensor_parallel", "pipeline_parallel", "context_parallel", "recompute")  # of `platform`: how a training is split
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_/.-]*|/[A-Za-z0-9_/.-]*")  # what Hydra and a shell read as it is
KEYWORDS = {"true", "false", "null", "inf", "nan"}  # what Hydra reads as something else than a text
OF_THE_STUDENT = "prune"  # also says what the student of a later stage looks like
OF_ONE_COMMAND = {"dry_run", "force", "run.stage", "student.path", "teacher.record"}


def override(key: str, value: object) -> str:
    """One override that Hydra reads back as just this value.

    Args:
        value: a text, path, number, truth value, enum member or None, or lists and mappings of them.
    """
    return f"{key}={_value(value)}"


def line(recipe: str, overrides: Iterable[str] = ()) -> str:
    """The line that runs a recipe, ready to be pasted into a shell."""
    return shlex.join(["python", f"recipes/{recipe}.py", *overrides])


def command(cfg: Recipe, recipe: str, *overrides: str) -> str:
    """The line that runs another recipe of the same run, with what this command line was given and that one still reads.

    Args:
        overrides: what it is given besides; `override` writes a value that may hold anything.
    """
    from_hf = cfg.model.name not in options("model") or "+model=from_hf" in cfg.run.typed  # whose folder may have any name
    words = ["+model=from_hf", override("model.path", cfg.model.path)] if from_hf else [f"+model={cfg.model.name}"]
    if cfg.experiment.name:
        words.append(f"experiment={cfg.experiment.name}")
        words += [f"platform.{key}=1" for key in _processes(cfg.experiment.name) if by_name()[recipe].processes == "one"]
    if cfg.run.name != default_name(cfg.model.name, cfg.experiment.name):
        words.append(override("run.name", cfg.run.name))
    if cfg.run.root != "runs":
        words.append(override("run.root", cfg.run.root))
    words += [word for word in layout(cfg, recipe) if key_of(word) not in map(key_of, cfg.run.typed)]
    said = {*map(key_of, [*words, *overrides]), "model", "experiment", "run.name", "run.root"}
    kept = [word for word in cfg.run.typed if key_of(word) not in said and _is_read(word, recipe, overrides)]
    return line(recipe, [*words, *kept, *overrides])


def key_of(word: str) -> str:
    """The key of an override: `prune.num_layers` of `++prune.num_layers=6`."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def default_name(model: str, experiment: str | None) -> str:
    """Name of a run that is not given one."""
    return f"{model}-{experiment}" if experiment else model


def _is_read(word: str, recipe: str, overrides: Iterable[str]) -> bool:
    """Whether an override of one stage's command is for another recipe's, too, or for what comes after that one."""
    key, stage = key_of(word), by_name()[recipe]
    section, _, rest = key.partition(".")
    if key in OF_ONE_COMMAND:
        return False
    if section == "convert":  # but for the type of an export, each conversion says what it converts to what
        return recipe == "convert" and rest == "dtype"
    if key == "teacher.mode":
        return recipe == "distill"
    if section == "platform" and rest in PROCESSES:
        return stage.processes != "one" and not word.endswith("=1")
    if section not in (known := sections()) or (section == OF_THE_STUDENT and stage.trains):
        return True
    own = "export" if "convert.to=hf" in overrides else stage.of_config
    return known.index(section) >= known.index(own)


def layout(cfg: Recipe, recipe: str) -> list[str]:
    """How the experiment splits a recipe's training where its chain runs it."""
    stages = [stage for stage in cfg.experiment.stages if stage.recipe == recipe and by_name()[recipe].processes != "one"]
    keys = {f"platform.{key}" for key in LAYOUT}
    return [word for word in stages[0].overrides if key_of(word) in keys] if stages else []


@cache
def _processes(experiment: str) -> tuple[str, ...]:
    """Keys of `platform` that an experiment makes several processes of."""
    file = CONF / "experiment" / f"{experiment}.yaml"
    written = OmegaConf.load(file) if file.is_file() else {}
    bases = [name for name in written.get("defaults", []) if isinstance(name, str) and name != "_self_"]
    found = {key for key, value in written.get("platform", {}).items() if value != 1}.union(*map(_processes, bases))
    return tuple(key for key in PROCESSES if key in found)


def _value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return _value(value.value)
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_value, value)) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    """A text as Hydra reads it: quoted where it holds more than a plain path; `${` is no interpolation."""
    if PLAIN.fullmatch(text) and text.lower() not in KEYWORDS:
        return text
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return QuotedString(literal, Quote.single).with_quotes()
