"""Hydra's and OmegaConf's errors as messages of three parts: what came, what was expected, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from hydra.errors import OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_plugins.configs.schema import ModelConfig, Recipe
from nemo_plugins.configs.store import groups, options

FILES_OF_KEYS = {
    "device": ("platform.gpu", "plan.gpu", "plan.device", "prune.budget.device")
}  # folders of conf/ that are no group


def explain(error: BaseException) -> str:
    """A message without a traceback."""
    causes = list(_causes(error))
    text = "\n".join(str(cause) for cause in causes)
    if unreadable := next((cause for cause in causes if isinstance(cause, OverrideParseException)), None):
        why = str(unreadable).splitlines()[0]
        return (
            f"{unreadable.override}: cannot be read: {why}\noverrides are key=value; a list is [a,b]; quote a text with , or ="
        )
    if match := re.search(r"Could not find '(\w+)/([^']+)'", text):
        group, option = match.groups()
        known = options(group)
        return _lines(
            f"{group}={option}: conf/{group}/ has no {option}",
            f"expected one of: {', '.join(known)}" if known else f"expected a group of conf/: {', '.join(groups())}",
            _closest(option, known, f"{'+' if group == 'model' else ''}{group}="),
        )
    if match := re.search(r"Could not override '([^'@]+)(?:@[^']*)?'\.\s*No match in the defaults list", text):
        group = match[1]
        if group == "model":
            return "model= has nothing to replace: write +model=<name>\nmodels: " + ", ".join(options("model"))
        named_by = FILES_OF_KEYS.get(group, ())
        return _lines(
            f"{group}: no such group",
            f"expected one of: {', '.join(groups())}",
            f"a file of conf/{group}/ is named by a key: {', '.join(f'{key}=' for key in named_by)}" if named_by else "",
            _closest(group, groups()),
        )
    if "Multiple values for" in text:
        return _first(text)
    verb = r"(?:override|overriding|Could not override|Could not append to config\.?)"
    asked = re.search(r"full_key: (\S+)", text) or re.search(rf"{verb}\s+'?\+{{0,2}}([\w.]+)", text)
    key = asked and asked[1]
    ours = [cause for cause in causes if isinstance(cause, OmegaConfBaseException)] or causes
    detail = str(ours[0]).splitlines()[0]
    if key and re.search(r"not in struct|Key '[^']*' not in|not in '\w+'|Could not override", text):
        return no_such_key(key)
    if key:
        return _lines(f"{key}: {detail}", "" if "expected" in detail else _expected(key))
    return _lines(_first(text) or type(error).__name__, "overrides are key=value; all keys and values: --cfg job")


def no_such_key(key: str) -> str:
    """What to say of a key that the schema does not have."""
    return _lines(f"{key}: there is no such key", _closest(key, keys()), "all keys and values: --cfg job")


def keys() -> list[str]:
    """Every dotted key of a recipe's configuration."""
    root = OmegaConf.structured(Recipe)
    root.model = OmegaConf.structured(ModelConfig)
    return list(_keys(root, ""))


def _keys(node, prefix: str) -> Iterator[str]:
    for key in node:
        name = f"{prefix}{key}"
        yield name
        if not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(node[key]):
            yield from _keys(node[key], f"{name}.")


def _expected(key: str) -> str:
    """The type that the schema wants."""
    *parents, last = key.split(".")
    node = OmegaConf.structured(Recipe)
    node.model = OmegaConf.structured(ModelConfig)
    for parent in parents:
        if not OmegaConf.is_dict(node) or parent not in node:
            return ""
        node = node[parent]
    declared = (getattr(base, "__annotations__", {}) for base in getattr(OmegaConf.get_type(node), "__mro__", ()))
    annotation = next((names[name] for names in declared if (name := last.split("[")[0]) in names), None)
    return f"expected {annotation}" if annotation else ""


def _closest(given: str, known: Iterable[str], prefix: str = "") -> str:
    known = list(known)
    found = [one for one in difflib.get_close_matches(given, known, n=3, cutoff=0.6) if not given.startswith(f"{one}.")]
    if not found:  # a right last part under a wrong parent, or one level forgotten
        last = given.split(".")[-1]
        found = [key for key in known if key.split(".")[-1] == last][:1]
    return f"did you mean {prefix}{found[0]}?" if found else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip())[:600]


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)
