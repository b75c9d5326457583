"""The teacher goes on with the distillation's text first; the stages after it take the corrected one."""

import pytest
import torch
from laptop import REPOSITORY, ok, train_batch

pytestmark = pytest.mark.nemo

STEPS = ("pretrain.max_steps=3", "pretrain.seq_length=64", "pretrain.micro_batch_size=4", "pretrain.global_batch_size=8")
SCHEDULE = ("pretrain.warmup_steps=1", "pretrain.checkpoint_every=3", "pretrain.validate_every=3", "pretrain.lr=1e-3")
NAME = "run.name=tiny_pl-laptop/corrected"


@pytest.fixture(scope="module")
def corrected(laptop):
    ok(laptop.recipe("pretrain", "pretrain.from_teacher=true", *STEPS, *SCHEDULE, NAME, "platform.precision=fp32"))
    return "corrected/teacher-correction"


def test_it_begins_with_the_teachers_weights(laptop, corrected):
    from transformers import AutoModelForCausalLM

    teacher = AutoModelForCausalLM.from_pretrained(REPOSITORY / "assets" / "tiny_pl", dtype=torch.float32).eval()
    samples = [train_batch(laptop, "pretrain", index, *STEPS, key=None) for index in range(8)]
    tokens, labels = (torch.stack([sample[key] for sample in samples]) for key in ("tokens", "labels"))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(teacher(tokens).logits.flatten(0, 1), labels.flatten())
    losses = laptop.losses(corrected)
    assert losses[0] == pytest.approx(expected.item(), rel=1e-4)


def test_the_stages_after_it_take_the_corrected_teacher(laptop, corrected):
    ok(laptop.recipe("prune", NAME, "platform.precision=fp32"))
    inputs = laptop.summary("corrected/prune")["inputs"]
    assert any("corrected/teacher-correction" in path for path in inputs), inputs
    teacher, before = (laptop.summary(name)["metrics"]["loss_before"] for name in ("prune", "corrected/prune"))
    assert before != pytest.approx(teacher, rel=1e-6)
