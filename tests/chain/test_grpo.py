"""Training by rewards of the short chain: against transformers, at other layouts, killed, with rewards that throw."""

import json

import pytest
import torch
from laptop import ok, weights
from safetensors.torch import load_file
from test_alignment import LAYOUTS, logprobs, model_of

pytestmark = pytest.mark.nemo

KEYS = (
    "loss",
    "learned_reward",
    "kl",
    "clip_fraction",
    "ratio",
    "grad_norm",
    "val_loss",
    "val_reward",
    "reward",
    "length",
    "signal",
)


@pytest.fixture(scope="module")
def source(laptop) -> str:
    return f"student.path={laptop.run / 'dpo' / 'checkpoint'}"


def rollout(laptop, number: int, stage: str = "grpo") -> dict[str, torch.Tensor]:
    return load_file(laptop.run / stage / "rollouts" / f"rollout={number:06d}.safetensors")


def test_log_probabilities_of_what_was_drawn_are_the_trainers_and_those_of_transformers(laptop):
    hf = ("convert.to=hf", "convert.dtype=fp32", "run.stage=dpo-hf", f"convert.source={laptop.run / 'dpo' / 'checkpoint'}")
    ok(laptop.recipe("convert", *hf))
    model, first = model_of(laptop.run / "dpo-hf" / "hf"), rollout(laptop, 0)
    apart, n = 0.0, len(first["tokens"])
    assert n == 16
    for i in range(n):
        length, start = int(first["lengths"][i]), int(first["starts"][i])
        wanted = logprobs(model, first["tokens"][i, :length])[start - 1 :]
        for name in ("engine", "old", "reference"):  # before the first update all three are the policy
            got = first[name][i, start - 1 : length - 1]
            apart = max(apart, float((got - wanted).abs().max()))
    assert apart < 1e-4
    second = rollout(laptop, 1)
    assert not torch.equal(second["reference"], second["old"]), "after an update the reference is no longer the policy"
    assert max(laptop.losses("grpo", "mismatch")) < 1e-4


def test_the_first_update_of_a_rollout_clips_nothing_and_the_second_is_of_the_same_completions(laptop):
    assert laptop.losses("grpo", "ratio")[0] == pytest.approx(1, abs=1e-5)
    assert laptop.losses("grpo", "ratio")[1] != pytest.approx(1, abs=1e-7)
    first = rollout(laptop, 0)
    assert float(first["advantages"].view(4, 4).sum(-1).abs().max()) < 1e-5
    assert laptop.losses("grpo", "kl")[0] < 1e-12 and all(value >= 0 for value in laptop.losses("grpo", "kl"))


def test_what_a_person_looks_at(laptop):
    folder = laptop.run / "grpo"
    told = json.loads((folder / "samples" / "step=0000000.json").read_text())
    assert told and {"prompt", "answer", "reference", "reward"} <= told[0].keys()
    summary = laptop.summary("grpo")
    assert summary["metrics"]["first"] is not None and summary["metrics"]["last"] is not None
    assert summary["metrics"]["reward_failures"] == 0
    page = (folder / "report.html").read_text()
    assert "Do the rewards rise" in page and "What it says" in page


@pytest.mark.parametrize("layout", ["tensor", "pipeline", pytest.param("data", marks=pytest.mark.slow)])  # DPO's is in CI
def test_layouts(laptop, source, layout):
    """Data, tensor and pipeline parallel runs draw the same completions and learn the same."""
    *split, size = LAYOUTS[layout]
    ok(laptop.recipe("grpo", f"run.name=tiny_pl-laptop/{layout}", source, *split, f"grpo.{size}"))
    for number in (0, 1):
        one, two = rollout(laptop, number), rollout(laptop, number, f"{layout}/grpo")
        assert torch.equal(one["tokens"], two["tokens"])
        assert torch.allclose(one["old"], two["old"], atol=1e-4) and torch.allclose(one["engine"], two["engine"], atol=1e-4)
    for key in KEYS:
        one, two = laptop.losses("grpo", key), laptop.losses(f"{layout}/grpo", key)
        assert one and one == pytest.approx(two, rel=1e-3 if key == "grad_norm" else 1e-4, abs=2e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dapo", "gspo", "cispo"])
def test_losses_on_two_processes(laptop, source, kind):
    """A mean over tokens is one over the update's, whichever process and micro-batch they are in."""
    *split, size = LAYOUTS["data"]
    for name, layout in ((kind, ()), (f"{kind}-data", (*split, f"grpo.{size}"))):
        ok(laptop.recipe("grpo", f"run.name=tiny_pl-laptop/{name}", source, f"grpo.kind={kind}", "grpo.clip_low=1e-3", *layout))
    assert max(laptop.losses(f"{kind}/grpo", "clip_fraction")) > 0
    assert laptop.losses(f"{kind}/grpo", "loss") != laptop.losses("grpo", "loss")
    for key in KEYS:
        one, two = laptop.losses(f"{kind}/grpo", key), laptop.losses(f"{kind}-data/grpo", key)
        assert one and one == pytest.approx(two, rel=1e-3 if key == "grad_norm" else 1e-4, abs=2e-5), key


def test_killed_within_a_rollout_it_goes_on_bit_equal(laptop, source):
    own = ("run.name=tiny_pl-laptop/killed", source)
    folder = laptop.run / "killed" / "grpo"
    first = folder / "steps" / "step=0000001"  # of two updates that share a rollout
    stage = laptop.start("grpo", *own, until=first.exists)
    stage.kill()
    stage.wait()
    ok(laptop.recipe("grpo", *own))
    straight, resumed = (weights(at / "steps" / "step=0000004") for at in (laptop.run / "grpo", folder))
    assert straight.keys() == resumed.keys()
    assert not [name for name in straight if not torch.equal(straight[name], resumed[name])]
    for key in KEYS:
        assert laptop.losses("grpo", key) == laptop.losses("killed/grpo", key), key


def test_a_reward_that_throws_is_a_zero_and_counted_and_the_run_goes_on(laptop, source, tmp_path):
    """Dr. GRPO with a user's own reward, two passes over each rollout and a penalty for what was cut off."""
    file = tmp_path / "mine.py"
    file.write_text(
        "def shortest(prompt, completion, reference):\n"
        "    if len(completion) % 2:\n        raise RuntimeError('odd')\n"
        "    return 1 / (1 + len(completion))\n"
    )
    done = ok(
        laptop.recipe(
            "grpo", "run.name=tiny_pl-laptop/own", source, "grpo.kind=dr_grpo", "grpo.epochs=2", "grpo.overlong=penalise",
            f"+grpo.own_rewards.shortest={file}:shortest", "+grpo.rewards.boxed_math.shortest=0.5",
            "+grpo.rewards.multiple_choice.shortest=0.5", "grpo.temperature=0.8",
        )
    )  # fmt: skip
    summary = laptop.summary("own/grpo")
    assert summary["metrics"]["reward_failures"] > 0 and "RuntimeError" in (laptop.run / "own" / "grpo" / "log.txt").read_text()
    assert not (laptop.run / "own" / "grpo" / "rollouts" / "rollout=000001.safetensors").exists(), "four updates of one rollout"
    assert max(laptop.losses("own/grpo", "mismatch")) < 1e-4, "drawn and trained at the same temperature"
    assert "reward_shortest" in (laptop.run / "own" / "grpo" / "metrics.jsonl").read_text()
    assert "convert.py" in done.stdout
