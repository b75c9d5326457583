"""Transformer Engine that is installed where there is no CUDA device, as an image is on a CPU node, counts as absent."""

import ast
import importlib
import sys
from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from nemo_plugins import platforms
from nemo_plugins.configs import REPOSITORY
from nemo_plugins.runs import UserError
from nemo_plugins.runs.recipe import _choose_transformer_engine

LIBRARIES = ("nemo", "megatron", "modelopt")


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A Transformer Engine that can be imported; nothing of it is left afterwards."""
    folder = tmp_path / "transformer_engine"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "pytorch.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("transformer_engine", "megatron")]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformer_engine"]:
        del sys.modules[name]


def test_without_a_device_it_is_absent_and_with_one_it_is_here(installed, monkeypatch):
    monkeypatch.setattr(platforms, "has_cuda", lambda: False)
    assert not platforms.has_transformer_engine()
    monkeypatch.setattr(platforms, "has_cuda", lambda: True)
    assert platforms.has_transformer_engine()


def test_a_platform_hides_it_or_refuses_to_start_without_it(installed, monkeypatch):
    monkeypatch.setattr(platforms, "has_cuda", lambda: True)
    for asked in ("auto", True):
        _choose_transformer_engine(asked)
        assert platforms.has_transformer_engine()
    monkeypatch.setattr(platforms, "has_cuda", lambda: False)
    with pytest.raises(UserError, match="platform.transformer_engine=true: Transformer Engine cannot be used here"):
        _choose_transformer_engine(True)
    monkeypatch.setattr(platforms, "has_cuda", lambda: True)
    _choose_transformer_engine(False)
    assert not platforms.has_transformer_engine()


@pytest.mark.parametrize("half_imported", [False, True])
def test_hidden_it_is_absent_for_every_library_that_asks(installed, half_imported):
    if half_imported:
        importlib.import_module("transformer_engine.pytorch")
    platforms.hide([platforms.TRANSFORMER_ENGINE])
    assert find_spec("transformer_engine") is None
    for name in ("transformer_engine", "transformer_engine.pytorch"):
        with pytest.raises(ImportError):
            importlib.import_module(name)
    platforms.hide([platforms.TRANSFORMER_ENGINE])


def test_a_library_that_has_taken_it_already_is_an_error(installed, monkeypatch):
    importlib.import_module("transformer_engine")
    monkeypatch.setitem(sys.modules, "megatron.core", sys)
    with pytest.raises(RuntimeError, match=r"expected platforms.prepare\(\) before any import of NeMo"):
        platforms.hide([platforms.TRANSFORMER_ENGINE])


@pytest.mark.parametrize("cuda", [False, True])
def test_apexs_kernels_are_hidden_where_there_is_no_device(monkeypatch, tmp_path, cuda):
    """NeMo fuses gradient accumulation, and Megatron takes Apex's optimizer, wherever they can be imported."""
    names = ("apex", "amp_C", "fused_weight_gradient_mlp_cuda")
    for name in names:
        (tmp_path / f"{name}.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("without_cuda", "without_transformer_engine"):
        monkeypatch.setitem(sys.modules, f"nemo_plugins.platforms.{module}", SimpleNamespace(apply=tuple))
        monkeypatch.setattr(platforms, module, SimpleNamespace(apply=tuple), raising=False)
    monkeypatch.setattr(platforms, "has_cuda", lambda: cuda)
    monkeypatch.setattr(platforms, "has_transformer_engine", lambda: False)
    monkeypatch.setitem(sys.modules, platforms.UNIFIED_MEMORY, None)
    platforms.prepare.__wrapped__()
    assert {name for name in names if find_spec(name)} == (set(names) if cuda else set())
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("file", sorted((REPOSITORY / "recipes").glob("*.py")), ids=lambda file: file.stem)
def test_a_recipe_prepares_the_platform_before_it_imports_nemo(file):
    main = next(node for node in ast.parse(file.read_text()).body if getattr(node, "name", "") == "main")
    nodes = list(ast.walk(main))
    calls = [node.lineno for node in nodes if isinstance(node, ast.Call) and ast.unparse(node) == "prepare()"]
    uses = [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and any(map(uses_nemo, imports([node])))]
    assert not uses or (calls and min(calls) < min(uses))


def imports(body) -> list[str]:
    """Modules that statements import when they run; those of functions, and for types alone, are left out."""
    found = []
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


@cache
def own(name: str) -> tuple[str, ...]:
    path = REPOSITORY.joinpath(*name.split("."))
    file = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    return tuple(imports(ast.parse(file.read_text()).body)) if file else ()


@cache
def uses_nemo(name: str) -> bool:
    """Whether an import of this module of ours is one of NeMo's, through whatever it imports itself."""
    seen, left = set(), [name]
    while left:
        if (one := left.pop()) not in seen:
            seen.add(one)
            left += own(one) if one.startswith("nemo_plugins") else ()
    return any(one.partition(".")[0] in LIBRARIES for one in seen)
