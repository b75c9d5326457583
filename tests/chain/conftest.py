"""The chain runs once a session; these tests look at what it left."""

import os
from pathlib import Path

import pytest
from laptop import MEASURED, REPOSITORY, Laptop, ok


@pytest.fixture(scope="session")
def laptop(tmp_path_factory) -> Laptop:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    made = Laptop(tmp_path_factory.mktemp("laptop"))
    chain = ok(made.recipe("minitron"))
    (made.root / "said.txt").write_text(chain.stdout + chain.stderr)
    return made


@pytest.fixture(scope="session")
def exported(laptop) -> dict[str, Path]:
    """Hugging Face folders by name: teacher (bundled), pruned, distilled."""
    ok(
        laptop.recipe(
            "convert", "convert.to=hf", "run.stage=pruned-hf", f"convert.source={laptop.run / 'prune' / 'checkpoint'}"
        )
    )
    return {
        "teacher": REPOSITORY / "assets" / "tiny_pl",
        "pruned": laptop.run / "pruned-hf" / "hf",
        "distilled": laptop.run / "convert-export" / "hf",
    }


@pytest.fixture(scope="session")
def measured_prune(laptop) -> Path:
    """Run folder of a pruning in fp32 with all that can be measured."""
    ok(laptop.recipe("prune", "run.name=tiny_pl-laptop/measured", *MEASURED))
    return laptop.run / "measured" / "prune"
