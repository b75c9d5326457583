"""The chain of a teacher that no file lists: by its folder and a text, with what more data are given for."""

import json
import sys
from pathlib import Path

import pytest
import random_models
import torch
import warm_start
from laptop import REPOSITORY, ok
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from nemo_plugins.data import documents

pytestmark = [pytest.mark.nemo, pytest.mark.slow]  # two chains; in CI they are planned, and the laptop's runs

LENGTH = 128
TEXT, CHATS = (REPOSITORY / "assets" / name for name in ("polish_text", "chat_samples"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Runs the chain of a random Qwen2 with few texts; returns what it said and the run's folder."""
    base = tmp_path_factory.mktemp("own")
    shape = dict(num_hidden_layers=3, hidden_size=64, intermediate_size=192, num_attention_heads=4, num_key_value_heads=2)
    random_models.write(
        Qwen2Config(**shape, vocab_size=4096, max_position_embeddings=LENGTH, bos_token_id=1, eos_token_id=2, dtype="float32"),
        base / "teacher",
        bias_std=0.1,
    )
    for name, count in (("train", 60), ("heldout", 20)):
        texts = [text for text, _ in zip(documents.documents(TEXT / f"{name}.jsonl.gz"), range(count), strict=False)]
        (base / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def run(*overrides: str):
        words = ["+model=from_hf", f"model.path={base / 'teacher'}", f"run.root={base / 'runs'}", "platform.precision=fp32"]
        words += [f"data.{name}=[{base / name}.jsonl]" for name in ("train", "heldout")]
        few = ["distill.max_steps=6", "distill.micro_batch_size=2", "export.formats=[q8_0]", "export.verify.strings=20"]
        few += ["export.verify.windows=1", "export.verify.prompts=1", "export.verify.new_tokens=4", "eval.resamples=100"]
        command = [sys.executable, str(REPOSITORY / "recipes" / "minitron.py"), *words, *few, *overrides]
        return ok(warm_start.run(command)), base / "runs" / "teacher-own"

    return run


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def finished(run: Path) -> list[str]:
    done = [file.parent for file in run.glob("*/summary.json")]
    return [folder.name for folder in sorted(done, key=lambda folder: summary(folder)["started"])]


def test_a_teacher_and_a_text_are_enough_and_dialogues_add_their_stages(chain):
    said, run = chain()
    plain = ["convert-import", "prune", "pruned-export", "distill", "convert-export", "quantize", "eval", "report"]
    assert sorted(finished(run)) == sorted(plain)
    assert "Traceback" not in said.stdout + said.stderr
    assert (run / "report" / "report.html").is_file()
    student = AutoModelForCausalLM.from_pretrained(run / "convert-export" / "hf", torch_dtype=torch.float32)
    assert (student.config.num_hidden_layers, student.config.intermediate_size) == (2, 128)  # nobody has named sizes
    tokenizer = AutoTokenizer.from_pretrained(run / "convert-export" / "hf")
    ids = tokenizer("Dzień dobry", return_tensors="pt").input_ids
    assert student.generate(ids, max_new_tokens=4, min_new_tokens=4).shape[1] == ids.shape[1] + 4
    bits = {name: one["tasks"]["heldout_bits_per_byte"]["score"] for name, one in summary(run / "eval")["models"].items()}
    assert {"teacher", "pruned", "distilled", "q8_0"} <= bits.keys() and all(0 < bit < 20 for bit in bits.values())

    given = [f"sft.{key}=[{CHATS / f'sft_{name}.jsonl.gz'}]" for key, name in (("data", "train"), ("heldout", "heldout"))]
    again, _ = chain(*given, "sft.max_steps=2", "run.name=teacher-own", "force=false")
    for stage in ("convert-import", "prune", "distill", "convert-export"):
        assert f"{stage} is finished with this configuration" in again.stdout
    assert {"sft", "aligned-export"} <= set(finished(run))
    assert summary(run / "sft")["metrics"]["val_loss"] > 0
    assert "sft" in summary(run / "eval")["models"]
