"""A function takes eight parameters at most: more of them are an object that is missing. Mathematics on tensors is excepted."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "nemo_plugins"
MOST = 8
MATHEMATICS = {
    "alignment/losses.py": {"preference_loss", "grpo_loss"},
    # kernels and their parts: pointers, strides and constants
    "distillation/kd_triton.py": {"_rows", "_shard", "_weights", "_gradient"},
    "models/vocabulary/focus.py": {"rows"},
}


def long_ones(package: Path) -> dict[str, set[str]]:
    """Functions with more than `MOST` parameters, by file; `self`, `cls` and autograd's `ctx` do not count."""
    found: dict[str, set[str]] = {}
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                names += [each.arg for each in (given.vararg, given.kwarg) if each]
                if len([name for name in names if name not in ("self", "cls", "ctx")]) > MOST:
                    found.setdefault(str(file.relative_to(package)), set()).add(node.name)
    return found


def test_only_mathematics_takes_more_than_eight_parameters(tmp_path):
    assert long_ones(PACKAGE) == MATHEMATICS
    (tmp_path / "a.py").write_text(
        "class A:\n    def f(self, a, b, /, c, *d, e, g, h, i, **j): ...\n    def h(self, *a): ...\n"
    )
    assert long_ones(tmp_path) == {"a.py": {"f"}}
