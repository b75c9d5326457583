"""The chain runs once a session; these tests look at what it left."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from laptop import MEASURED, REPOSITORY, Laptop, ok


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Tests run in several processes share what the session makes: whoever comes first makes it, the others find it."""
    with open(root.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def laptop(tmp_path_factory) -> Laptop:
    base = tmp_path_factory.getbasetemp()
    made = Laptop((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "laptop")
    with one_at_a_time(made.root):
        if not (said := made.root / "said.txt").exists():
            chain = ok(made.recipe("minitron"))
            said.write_text(chain.stdout + chain.stderr)
    return made


@pytest.fixture(scope="session")
def exported(laptop) -> dict[str, Path]:
    """Hugging Face folders by name: teacher (bundled), pruned, distilled; the students in fp32, as they were trained."""
    pruned = f"convert.source={laptop.run / 'prune' / 'checkpoint'}"
    distilled = f"convert.source={laptop.run / 'distill'}"  # a stage's folder stands for its checkpoint
    with one_at_a_time(laptop.root):
        ok(laptop.recipe("convert", "convert.to=hf", "run.stage=pruned-hf", pruned))
        ok(laptop.recipe("convert", "convert.to=hf", "convert.dtype=fp32", "run.stage=distilled-hf", distilled))
    return {
        "teacher": REPOSITORY / "assets" / "tiny_pl",
        "pruned": laptop.run / "pruned-hf" / "hf",
        "distilled": laptop.run / "distilled-hf" / "hf",
    }


@pytest.fixture(scope="session")
def measured_prune(laptop) -> Path:
    """Run folder of a pruning in fp32 with all that can be measured."""
    with one_at_a_time(laptop.root):
        ok(laptop.recipe("prune", "run.name=tiny_pl-laptop/measured", *MEASURED))
    return laptop.run / "measured" / "prune"
