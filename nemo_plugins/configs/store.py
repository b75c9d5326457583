"""Where the configuration files are, and the schema that Hydra holds them against."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import Recipe

REPOSITORY = Path(__file__).resolve().parents[2]
CONF = REPOSITORY / "conf"


@cache
def register() -> None:
    """Put the schema where `conf/recipe.yaml` starts from: a misspelt key or a wrong type fails while Hydra composes."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="recipe_schema", node=Recipe)


def groups() -> list[str]:
    """The groups of conf/ that a command line chooses from: those of recipe.yaml's defaults, and the model."""
    defaults = OmegaConf.load(CONF / "recipe.yaml").defaults
    names = (name for entry in defaults if OmegaConf.is_dict(entry) for name in entry)
    return ["model", *(name for name in names if not name.startswith("override "))]


def options(group: str) -> list[str]:
    """What may be chosen in a group, e.g. the models of `model`."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
