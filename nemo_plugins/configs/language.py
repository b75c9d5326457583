"""Languages: `conf/language/<code>.yaml`, or a team's own file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_plugins.configs.schema import LanguageConfig
from nemo_plugins.configs.store import CONF, options
from nemo_plugins.runs.errors import UserError


def load(language: str | Path) -> LanguageConfig:
    """A language by its code or by the path of its file.

    Raises:
        UserError: there is none, or its file has a key or a value that a language cannot have.
    """
    file = Path(language) if str(language).endswith((".yaml", ".yml")) else CONF / "language" / f"{language}.yaml"
    if not file.is_file():
        there = ", ".join(options("language"))
        raise UserError(f"language={language}: {file} is not there", f"expected {there}, or the path of a .yaml file")
    try:
        config = OmegaConf.merge(OmegaConf.structured(LanguageConfig), OmegaConf.load(file))
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{file}: {', '.join(missing)} missing")
        return OmegaConf.to_object(config)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(f"{file}: {error}") from None


def number_words(language: LanguageConfig) -> Callable[[int], str] | None:
    """The function that writes a number in the language's words; None where the language names none.

    Raises:
        UserError: `number_words` names something that is not there.
    """
    if language.number_words is None:
        return None
    module, _, function = language.number_words.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"language {language.code}: number_words={language.number_words}: {error}", "expected module:function"
        ) from None
