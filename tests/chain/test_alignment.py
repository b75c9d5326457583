"""SFT and preference training of the short chain: against transformers, at other layouts, killed and resumed."""

import json
import time

import numpy as np
import pytest
import torch
from laptop import REPOSITORY, ok, weights
from safetensors.torch import load_file

pytestmark = pytest.mark.nemo

SFT = REPOSITORY / "assets" / "chat_samples" / "sft_train.jsonl.gz"
FORMS = SFT.with_name("forms_train.jsonl.gz")  # the two that conf/model/tiny_pl.yaml names
EXACT = ("convert.to=hf", "convert.dtype=fp32")  # as they were trained
LAYOUTS = {  # all with Megatron's distributed optimizer
    "data": ("platform.devices=2", "micro_batch_size=1"),
    "tensor": ("platform.devices=2", "platform.tensor_parallel=2", "micro_batch_size=2"),
    "pipeline": ("platform.devices=2", "platform.pipeline_parallel=2", "micro_batch_size=1"),
}
COUNTED = ("accuracy", "chosen_fell")  # shares of pairs, of which one may lie on the edge


def model_of(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def template():
    from transformers import AutoTokenizer

    from nemo_plugins.data.chat.template import ChatTemplate

    return ChatTemplate(AutoTokenizer.from_pretrained(REPOSITORY / "assets" / "tiny_pl"))


@torch.no_grad()
def logprobs(model, ids) -> torch.Tensor:
    """log p of each token after the first, one sequence alone."""
    ids = torch.as_tensor(np.array(ids), dtype=torch.long)[None]
    return model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]


def test_packed_windows_train_on_what_each_dialogue_alone_would(laptop, exported, template, tmp_path):
    """The first step's loss is transformers' over its dialogues one at a time, the assistant's tokens alone."""
    from nemo_plugins.alignment.samples import Epochs
    from nemo_plugins.data.chat import sets
    from nemo_plugins.data.chat.dataset import DialogueWindows

    samples = sets.dialogues([SFT, FORMS], template, tmp_path, key="sft.data", policy="drop", seq_length=128, learn="every")
    windows = DialogueWindows(samples, 128, template.pad, 1234)
    first = Epochs(range(len(windows)), 4, 8, 1234)
    model, total, tokens = model_of(exported["distilled"]), 0.0, 0
    for place in range(8):
        for index in windows.windows[first[place]]:
            sample = samples[int(index)]
            learned = torch.from_numpy(np.array(sample.learned[1:]))
            total -= float(logprobs(model, sample.ids)[learned].sum())
            tokens += int(learned.sum())
    assert laptop.losses("sft")[0] == pytest.approx(total / tokens, rel=1e-5)


def test_the_reference_is_what_transformers_says(laptop, template, tmp_path):
    from nemo_plugins.data.chat import sets

    ok(laptop.recipe("convert", *EXACT, "run.stage=sft-hf", f"convert.source={laptop.run / 'sft' / 'checkpoint'}"))
    model = model_of(laptop.run / "sft-hf" / "hf")
    samples = sets.pairs(
        [laptop.rows("preferences_heldout", 64)], template, tmp_path, key="dpo.data", policy="drop", seq_length=128
    )
    stored, at = load_file(laptop.run / "dpo" / "reference" / "data.safetensors")["logp"], 0
    for pair in range(20):
        length = int(samples.positions[2 * pair : 2 * pair + 2].max())
        for sample in (samples[2 * pair], samples[2 * pair + 1]):
            wanted = logprobs(model, sample.ids)
            assert torch.allclose(stored[at : at + len(wanted)], wanted, rtol=1e-4, atol=1e-5)
            at += length
    first = {key: laptop.losses("dpo", key)[0] for key in ("loss", "margin", "reference_kl")}
    # up to rounding: attention works in blocks that go by the length that a pair is padded to
    nothing = pytest.approx(0, abs=1e-6)
    assert first == {"loss": pytest.approx(np.log(2), rel=1e-6), "margin": nothing, "reference_kl": nothing}


# the stages share all that splits: adapters below are SFT on two tensor-parallel processes, GRPO's tests have the pipeline
@pytest.mark.parametrize(
    ("stage", "layout"),
    [
        pytest.param(stage, layout, marks=[] if (stage, layout) == ("dpo", "data") else pytest.mark.slow)
        for stage in ("sft", "dpo")
        for layout in LAYOUTS
    ],
)
def test_layouts(laptop, stage, layout):
    """Data, tensor and pipeline parallel runs with other micro-batches are the run in one process."""
    source = laptop.run / ("distill" if stage == "sft" else "sft") / "checkpoint"
    *split, size = LAYOUTS[layout]
    split = (*split, "platform.shard_optimizer=true", f"{stage}.{size}")
    ok(laptop.recipe(stage, f"run.name=tiny_pl-laptop/{layout}", f"student.path={source}", *split))
    keys = ["loss", "grad_norm", "val_loss"]
    if stage == "dpo":
        keys += ["margin", "logp_chosen", "logp_rejected", "val_margin", "val_chosen_shift", "val_reference_kl", *COUNTED]
    for key in keys:
        one, two = laptop.losses(stage, key), laptop.losses(f"{layout}/{stage}", key)
        bound = {"abs": 1 / 8} if key in COUNTED else {"rel": 1e-3 if key == "grad_norm" else 5e-5, "abs": 2e-4}
        if key in COUNTED:
            one, two = one[1:], two[1:]  # of the first step's margins, which are 0, rounding decides
        assert one and one == pytest.approx(two, **bound), key


def test_a_killed_preference_training_goes_on_bit_equal(laptop):
    own = ("run.name=tiny_pl-laptop/killed", f"student.path={laptop.run / 'sft' / 'checkpoint'}")
    folder = laptop.run / "killed" / "dpo"
    stage = laptop.start("dpo", *own, until=(folder / "steps" / "step=0000002").exists)
    stage.kill()
    stage.wait()
    measured = (folder / "reference" / "data.safetensors").stat().st_mtime_ns
    ok(laptop.recipe("dpo", *own))
    assert (folder / "reference" / "data.safetensors").stat().st_mtime_ns == measured
    straight, resumed = (weights(at / "steps" / "step=0000004") for at in (laptop.run / "dpo", folder))
    assert straight.keys() == resumed.keys()
    assert not [name for name in straight if not torch.equal(straight[name], resumed[name])]
    for key in ("loss", "margin", "grad_norm", "val_margin", "val_logp_chosen"):
        assert laptop.losses("dpo", key) == laptop.losses("killed/dpo", key), key


def test_adapters_are_trained_resumed_and_merged(laptop, template, tmp_path):
    """Killed on two tensor-parallel processes and resumed, the merged weights have the loss of the training's end."""
    from nemo_plugins.data.chat import sets

    source = f"student.path={laptop.run / 'distill' / 'checkpoint'}"
    own = (
        "run.name=tiny_pl-laptop/lora",
        source,
        "sft.lora.dim=4",
        "sft.lr=5e-3",
        "platform.devices=2",
        "platform.tensor_parallel=2",
    )
    folder = laptop.run / "lora" / "sft"
    stage = laptop.start("sft", *own, until=(folder / "steps" / "step=0000002").exists)
    stage.kill()
    stage.wait()
    time.sleep(2)  # the kernel ends the workers of a launcher that is dead
    ok(laptop.recipe("sft", *own))
    losses = laptop.losses("lora/sft")
    assert losses[0] == pytest.approx(laptop.losses("sft")[0], rel=2e-5) and len(losses) == 4
    ok(laptop.recipe("convert", *EXACT, "run.stage=lora-hf", f"convert.source={folder / 'checkpoint'}"))
    model = model_of(laptop.run / "lora-hf" / "hf")
    common = dict(key="sft.heldout", policy="drop", seq_length=128, learn="every")
    heldout = [laptop.rows("sft_heldout", 96)]
    from nemo_plugins.data.chat.dataset import DialogueWindows

    samples = sets.dialogues(heldout, template, tmp_path, **common)
    windows = DialogueWindows(samples, 128, template.pad, 1234)
    total, tokens = 0.0, 0
    for place in range(len(windows) // 8 * 8):
        for index in windows.windows[place]:
            learned = torch.from_numpy(np.array(samples[int(index)].learned[1:]))
            total -= float(logprobs(model, samples[int(index)].ids)[learned].sum())
            tokens += int(learned.sum())
    assert laptop.losses("lora/sft", "val_loss")[-1] == pytest.approx(total / tokens, rel=2e-5)
    assert laptop.losses("lora/sft", "val_loss")[-1] != pytest.approx(laptop.losses("sft", "val_loss")[-1], rel=1e-3)


def test_it_answers_the_fixed_prompts_at_each_validation(laptop):
    """What it says at the end of SFT is what transformers says greedily."""
    import json

    from transformers import AutoTokenizer

    files = sorted((laptop.run / "sft" / "samples").iterdir())
    assert [file.name for file in files] == ["step=0000002.json", "step=0000004.json"]
    said = json.loads(files[-1].read_text())
    folder = laptop.run / "sft-hf" / "hf"
    ok(laptop.recipe("convert", *EXACT, "run.stage=sft-hf", f"convert.source={laptop.run / 'sft' / 'checkpoint'}"))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), model_of(folder)
    for one in said:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": one["prompt"]}], add_generation_prompt=True)
        end = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id]
        written = model.generate(
            torch.tensor([ids]), max_new_tokens=48, do_sample=False, eos_token_id=end, pad_token_id=tokenizer.pad_token_id
        )
        assert one["answer"] == tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)
    assert "What it says" in (laptop.run / "sft" / "report.html").read_text()


def test_weights_of_dialogues_and_the_adaptive_rate(laptop, tmp_path):
    """Half the weight is half the loss (WICEL); a rate for four times the tokens is half the rate, whatever the weight."""
    import gzip

    light = []
    for number, file in enumerate((SFT, FORMS)):
        rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
        light.append(tmp_path / f"light{number}.jsonl")
        light[-1].write_text("".join(json.dumps({**row, "weight": 0.5}) + "\n" for row in rows))
    source = f"student.path={laptop.run / 'distill' / 'checkpoint'}"
    # a first step learns some 250 tokens: its update is a quarter as large
    both = (f"sft.data=[{','.join(map(str, light))}]", "sft.adaptive_tokens=4000")
    ok(laptop.recipe("sft", "run.name=tiny_pl-laptop/adaptive", source, *both, "sft.max_steps=2"))
    assert laptop.losses("adaptive/sft")[0] == pytest.approx(laptop.losses("sft")[0] / 2, rel=1e-6)
    before, plain, scaled = (
        weights(laptop.run / place)["module.output_layer.weight"].float()
        for place in ("distill/checkpoint", "sft/steps/step=0000002", "adaptive/sft/steps/step=0000002")
    )
    ratio = (scaled - before).norm() / (plain - before).norm()
    assert 0.15 < ratio < 0.4


def test_the_exported_folder_renders_what_was_trained(laptop, template):
    from transformers import AutoTokenizer

    exported = laptop.run / "aligned-export" / "hf"
    messages = [
        {"role": "system", "content": "Odpowiadaj po polsku."},
        {"role": "user", "content": "Ile to jest 2 + 2?"},
        {"role": "assistant", "content": "4"},
    ]
    rendered = AutoTokenizer.from_pretrained(exported).apply_chat_template(messages)
    assert rendered == template.ids(messages)
    assert model_of(exported)(torch.tensor([rendered])).logits.isfinite().all()


def test_the_cpu_stage_makes_what_the_trainings_look_for_and_sft_tokenises_nothing(laptop, tmp_path):
    """`corpus.task=chats` before there is any checkpoint leaves what the chain's stages made for themselves, to the byte."""
    ok(laptop.recipe("data", "corpus.task=chats", f"run.root={tmp_path}"))
    made, chain = tmp_path / ".chats", laptop.root / ".chats"
    folders = sorted(path.name for path in made.iterdir() if path.is_dir())
    assert len(folders) == 3  # both sets of dpo are one file here
    for name in folders:
        files = sorted(path.relative_to(made / name) for path in (made / name).rglob("*") if path.is_file())
        assert len(files) > 4 and all((made / name / file).read_bytes() == (chain / name / file).read_bytes() for file in files)
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if not path.name.endswith(".lock")}
    source = f"student.path={laptop.run / 'distill' / 'checkpoint'}"
    ok(laptop.recipe("sft", f"run.root={tmp_path}", source, "sft.max_steps=2"))
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*") if not path.name.endswith(".lock")} == before
    first = json.loads((tmp_path / "tiny_pl-laptop" / "sft" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == laptop.losses("sft")[0]
