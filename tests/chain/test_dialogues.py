"""A distillation on text and dialogues: against transformers in double precision, killed and resumed, on two processes."""

import json

import numpy as np
import pytest
import torch
from laptop import REPOSITORY, ok, train_batch, weights

pytestmark = pytest.mark.nemo

CHATS = REPOSITORY / "assets" / "chat_samples" / "sft_train.jsonl.gz"
LENGTH, BATCH, HELDOUT, SEED = 64, 8, 16, 1234


@pytest.fixture(scope="module")
def own(laptop) -> list[str]:
    """Overrides of a distillation of four steps, half of whose windows are dialogues."""
    heldout = laptop.rows("sft_heldout", 96)
    steps = ["distill.max_steps=4", "distill.validate_every=2"]
    student = f"student.path={laptop.run / 'prune' / 'checkpoint'}"
    return [f"distill.chats=[{CHATS}]", f"distill.chats_heldout=[{heldout}]", "distill.chat_share=0.5", *steps, student]


@pytest.fixture(scope="module")
def straight(laptop, own):
    ok(laptop.recipe("distill", "run.name=tiny_pl-laptop/dialogues", *own))
    return laptop.run / "dialogues" / "distill"


@pytest.fixture(scope="module")
def models(exported):
    """Teacher and student as transformers has them, in double precision."""
    from transformers import AutoModelForCausalLM

    return [AutoModelForCausalLM.from_pretrained(exported[name], dtype=torch.float64).eval() for name in ("teacher", "pruned")]


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    """From a file to its samples and their windows."""
    from transformers import AutoTokenizer

    from nemo_plugins.data.chat import sets
    from nemo_plugins.data.chat.dataset import DialogueWindows
    from nemo_plugins.data.chat.template import ChatTemplate

    template = ChatTemplate(AutoTokenizer.from_pretrained(REPOSITORY / "assets" / "tiny_pl"))

    def of(file):
        cache = tmp_path_factory.mktemp("chats")
        samples = sets.dialogues([file], template, cache, key="chats", policy="drop", seq_length=LENGTH, learn="every")
        return samples, DialogueWindows(samples, LENGTH, template.pad, SEED).windows

    return of


def one_by_one(models, sequences) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Summed KL(teacher ‖ student), summed cross-entropy of the student and the number of the tokens that count.

    Args:
        sequences: ids `[t]` and which of them count, `[t]`, each sequence alone.
    """
    kl, ce, tokens = 0.0, 0.0, 0
    for ids, counts in sequences:
        ids, counts = torch.as_tensor(np.array(ids), dtype=torch.long), torch.as_tensor(np.array(counts))[1:]
        with torch.no_grad():
            t = models[0](ids[None, :-1]).logits[0].log_softmax(-1)
        s = models[1](ids[None, :-1]).logits[0].log_softmax(-1)
        kl = kl + (t.exp() * (t - s)).sum(-1)[counts].sum()
        ce = ce - s.gather(-1, ids[1:, None])[:, 0][counts].sum().detach()
        tokens += int(counts.sum())
    return kl, ce, tokens


def test_the_first_step_is_the_mean_over_whole_text_and_answers_alone(laptop, own, straight, models, dialogues):
    """Loss and the gradient's norm, each dialogue of the packed windows by itself."""
    from nemo_plugins.alignment.samples import Epochs

    samples, windows = dialogues(CHATS)
    order = Epochs(range(len(windows)), 4, BATCH, SEED)
    sequences = [(samples[int(i)].ids, samples[int(i)].learned) for place in range(BATCH // 2) for i in windows[order[place]]]
    assert len(sequences) > BATCH // 2  # windows are packed
    for place in range(BATCH // 2):
        item = train_batch(laptop, "distill", place, *own, key=None)
        sequences.append((torch.cat([item["tokens"], item["labels"][-1:]]), torch.ones(LENGTH + 1, dtype=torch.bool)))
    kl, _, tokens = one_by_one(models, sequences)
    assert BATCH // 2 * LENGTH < tokens < 0.8 * BATCH * LENGTH
    models[1].zero_grad()
    (kl / tokens).backward()
    norm = torch.stack([p.grad.norm() for p in models[1].parameters() if p.grad is not None]).norm()
    assert laptop.losses("dialogues/distill")[0] == pytest.approx(float(kl) / tokens, rel=1e-5)
    assert laptop.losses("dialogues/distill", "kd_loss")[0] == pytest.approx(float(kl) / tokens, rel=1e-5)
    assert laptop.losses("dialogues/distill", "grad_norm")[0] == pytest.approx(float(norm), rel=1e-4)


@torch.no_grad()
def test_heldout_answers_are_measured_beside_the_text(laptop, straight, models, dialogues):
    samples, windows = dialogues(laptop.rows("sft_heldout", 96))
    taken = [samples[int(i)] for place in range(HELDOUT) for i in windows[place]]
    kl, ce, tokens = one_by_one(models, [(sample.ids, sample.learned) for sample in taken])
    first = laptop.lines("dialogues/distill")[0]
    assert first["step"] == 0 and first["val_kl_chats"] == pytest.approx(float(kl) / tokens, rel=1e-5)
    assert first["val_loss_chats"] == pytest.approx(float(ce) / tokens, rel=1e-5)
    assert first["val_loss"] == pytest.approx(laptop.losses("distill", "val_loss")[0], rel=1e-6)  # of text alone
    summary = json.loads((straight / "summary.json").read_text())
    assert summary["metrics"]["val_kl_chats"] == laptop.losses("dialogues/distill", "val_kl_chats")[-1] < first["val_kl_chats"]
    assert summary["data"]["rows"]["chats"]["dropped"] + summary["data"]["dialogues"] == 2400
    assert "in 50% of the windows" in (straight / "report.html").read_text()


@pytest.mark.slow  # the order goes by the sample's number alone (tests/data/test_mixed.py); going on is test_interruption.py's
def test_killed_it_goes_on_bit_equal(laptop, own, straight):
    run = "run.name=tiny_pl-laptop/dialogues-killed"
    folder = laptop.run / "dialogues-killed" / "distill"
    stage = laptop.start("distill", run, *own, until=(folder / "steps" / "step=0000002").exists)
    stage.kill()
    stage.wait()
    assert not (folder / "summary.json").exists()
    ok(laptop.recipe("distill", run, *own))
    one, two = (weights(path / "steps" / "step=0000004") for path in (straight, folder))
    assert one.keys() == two.keys() and not [name for name in one if not torch.equal(one[name], two[name])]
    for key in ("loss", "kd_loss", "grad_norm", "val_loss", "val_kl_chats"):
        assert laptop.losses("dialogues/distill", key) == laptop.losses("dialogues-killed/distill", key), key


@pytest.mark.slow  # the mean over a step's tokens has a test of its own, SFT's layouts have the rest
@pytest.mark.parametrize("layout", ["data", "tensor", "pipeline"])
def test_layouts(laptop, own, straight, layout):
    """Two processes with smaller micro-batches are the run in one process."""
    name, two_ranks = f"dialogues-{layout}", ["platform.devices=2", "platform.shard_optimizer=true"]
    split = [*two_ranks, *([] if layout == "data" else [f"platform.{layout}_parallel=2"]), "distill.micro_batch_size=1"]
    ok(laptop.recipe("distill", f"run.name=tiny_pl-laptop/{name}", *own, *split))
    in_validation = ["val_loss", *([] if layout == "pipeline" else ["val_loss_chats", "val_kl_chats"])]
    for key in ("loss", "grad_norm", *in_validation):
        one, two = laptop.losses("dialogues/distill", key), laptop.losses(f"{name}/distill", key)
        if layout == "pipeline" and key == "val_loss":
            one = one[1:]  # NeMo leaves out a pipeline's validation before the first step
        assert one and one == pytest.approx(two, rel=2e-4 if key == "grad_norm" else 2e-5), key
