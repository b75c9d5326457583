"""Each adjustment is needed: the smallest real use of NeMo that fails without it, and works with all of them.

One start of NeMo for all of them, and one run of each probe in a fork of it. Slow: what it guards changes with the locked
versions (CONTRIBUTING.md), and that NeMo works with all of them every stage's test shows.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from probes import CONVERSIONS, NEEDED_BY, PROBES

from nemo_plugins import platforms
from nemo_plugins.platforms import without_cuda, without_transformer_engine
from nemo_plugins.platforms.adjustments import Adjustments, reword

pytestmark = pytest.mark.nemo
probed = pytest.mark.slow

REGISTERED = [adjustment.name for part in (without_cuda, without_transformer_engine) for adjustment in part.adjustment.all]


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[tuple[str, str | None], str | None]:
    """(probe, adjustment left out) → None, or the last line of what went wrong."""
    if platforms.has_cuda() or platforms.has_transformer_engine():
        pytest.skip("a CUDA device or Transformer Engine is here: nothing is missing that could be put right")
    folder = tmp_path_factory.mktemp("probes")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NVTE_")}  # Megatron's own
    environment = {**inherited, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(Path(__file__).with_name("probes.py")), str(folder)]
    with open(folder / "stderr.log", "w") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, timeout=900)
    assert done.returncode == 0, (folder / "stderr.log").read_text()[-2000:]
    runs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(run["probe"], run["without"]): run["error"] for run in runs}


@probed
@pytest.mark.parametrize("probe", [probe for probe in PROBES if probe not in CONVERSIONS])
def test_nemo_works_with_all_adjustments(errors, probe):
    assert errors[probe, None] is None


@probed
@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_norms_survive_both_conversions(errors, conversion):
    """Every tensor comes back to the bit without Transformer Engine, whose names for norms NeMo's converters know alone."""
    assert errors[conversion, None] is None


@probed
@pytest.mark.parametrize("name", REGISTERED)
def test_something_fails_without_the_adjustment(errors, name):
    assert errors[NEEDED_BY[name], None] is None
    error = errors[NEEDED_BY[name], name]
    assert error is not None, f"{NEEDED_BY[name]} works without {name!r}: remove that adjustment"


@probed
def test_nothing_is_touched_where_nothing_is_missing(errors):
    assert errors["nothing_missing", None] is None


def test_every_adjustment_says_where_it_is_needed():
    for part in (without_cuda, without_transformer_engine):
        for adjustment in part.adjustment.all:
            assert ".py:" in adjustment.because, adjustment.name


def test_an_unknown_name_cannot_be_left_out():
    with pytest.raises(ValueError, match="expected names among .*'here'.* got \\['nowhere'\\]"):
        registry = Adjustments()
        registry("here", because="a.py:1")(lambda: None)
        registry.apply(without={"nowhere"})


def test_reword_changes_one_function_wherever_it_is_named():
    def place(device="cuda"):
        return device, "cuda", ("on cuda", lambda: "cuda")

    same = place
    reword(place, lambda text: "cpu" if text == "cuda" else text)
    device, constant, (text, inner) = same()
    assert (device, constant, text, inner()) == ("cuda", "cpu", "on cuda", "cpu")  # a default is not the function's own text


def test_reword_refuses_a_function_that_names_no_device():
    with pytest.raises(RuntimeError, match="install the locked versions"):
        reword(lambda: "nothing", lambda text: "cpu" if text == "cuda" else text)
