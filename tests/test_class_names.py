"""A class's name says which one it is: no other of the package has it."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "nemo_plugins"


def shared(package: Path) -> dict[str, list[str]]:
    """Names of more than one class, each with the files of these."""
    found = defaultdict(list)
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(file.relative_to(package)))
    return {name: files for name, files in found.items() if len(files) > 1}


def test_no_two_classes_share_a_name(tmp_path):
    assert not shared(PACKAGE)
    (tmp_path / "a.py").write_text("class Table: ...\n")
    (tmp_path / "b.py").write_text("def local():\n    class Table: ...\n")
    assert shared(tmp_path) == {"Table": ["a.py", "b.py"]}
