"""A plan's bytes of a training against those that torch counts on Megatron's layers without Transformer Engine."""

import json
import sys
from pathlib import Path

import pytest
import training_state
import warm_start

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import memory
from nemo_plugins.runs.prepare import compose

pytestmark = pytest.mark.nemo
WITHIN = 0.05


@pytest.fixture(scope="module")
def counted(tmp_path_factory) -> dict[str, dict[str, int]]:
    script = Path(training_state.__file__)
    done = warm_start.run([sys.executable, str(script)], cwd=tmp_path_factory.mktemp("state"), nemo=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("precision", "width"), [("bf16", 2), ("fp32", 4)])
@pytest.mark.parametrize("family", training_state.FAMILIES)
@pytest.mark.parametrize("what", ["weights", "gradients", "optimizer", "activations"])
def test_planned_bytes_are_those_that_torch_counts(counted, precision, width, what, family):
    cfg = compose(["+model=tiny_pl", f"pretrain.seq_length={training_state.TOKENS}", "pretrain.micro_batch_size=1"])
    model = Architecture(**training_state.SIZES, family=family)
    need = memory.training(model, cfg.pretrain, cfg.platform, width, sharded=False, on_gpu=False)
    assert getattr(need, what) == pytest.approx(counted[f"{family} {precision}"][what], rel=WITHIN)
