"""Which module imports which: a circle, even one within functions, means that two files are one."""

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "nemo_plugins"


def graph(package: Path) -> dict[str, set[str]]:
    """For each module the modules of the package that it imports, anywhere in it."""
    files = {".".join(file.relative_to(package.parent).with_suffix("").parts): file for file in package.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): file for name, file in files.items()}
    found: dict[str, set[str]] = {}
    for name, file in modules.items():
        asked = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
        wanted = {f"{node.module}.{alias.name}" for node in asked for alias in node.names} | {node.module for node in asked}
        # a package imports its modules, and they may take each other from it by name
        found[name] = {one for one in wanted if one in modules and modules[one].stem != "__init__"} - {name}
    return found


def test_no_module_imports_itself_by_way_of_others(tmp_path):
    graphlib.TopologicalSorter(graph(PACKAGE)).prepare()  # raises CycleError with the circle
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "a.py").write_text("from two import b\n")
    (tmp_path / "two" / "b.py").write_text("def late():\n    from two.a import x\n")
    assert graph(tmp_path / "two") == {"two.a": {"two.b"}, "two.b": {"two.a"}}
