"""What the laptop's chain leaves: a student that loads and writes, the teacher's own rows, a first loss that can be checked."""

import json
from pathlib import Path

import pytest
import torch
from laptop import HELDOUT, SHORT, ok, train_batch
from safetensors.torch import load_file
from torch.nn.functional import kl_div
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_plugins.data.module import Windows
from nemo_plugins.planning import chain_plan
from nemo_plugins.reporting import chain, heldout_losses
from nemo_plugins.reporting.first_result import TOKENS
from nemo_plugins.runs.prepare import compose

pytestmark = pytest.mark.nemo

STAGES = (
    "convert-import", "prune", "distill", "convert-export", "sft", "dpo", "grpo", "aligned-export",
    "quantize", "teacher-quantize", "bench", "eval", "report",
)  # fmt: skip


def tensors(folder):
    return {key: value for file in sorted(folder.glob("*.safetensors")) for key, value in load_file(file).items()}


def test_every_stage_leaves_a_whole_run_folder(laptop):
    for stage in STAGES:
        summary = laptop.summary(stage)
        assert summary["status"] == "done" and summary["seconds"] > 0 and summary["versions"]["nemo-toolkit"] == "2.7.3"
        assert all((laptop.run / stage / path).exists() for path in summary["outputs"].values()), stage
        assert not list((laptop.run / stage).rglob("*.partial"))
    assert (laptop.run / "prune" / "plots" / "layers.png").stat().st_size > 5000
    assert (laptop.run / "distill" / "plots" / "curves.png").stat().st_size > 5000
    assert not Path("lightning_logs").exists()  # nothing is written beside it


def test_the_student_goes_on_with_a_sentence_at_each_validation(laptop, exported):
    """What it says at the end is what transformers says greedily; it speaks without its teacher."""
    files = sorted((laptop.run / "distill" / "samples").iterdir())
    assert [file.name for file in files] == ["step=0000000.json", "step=0000003.json", "step=0000006.json"]
    [said] = json.loads(files[-1].read_text())
    tokenizer = AutoTokenizer.from_pretrained(exported["distilled"])
    model = AutoModelForCausalLM.from_pretrained(exported["distilled"])
    ids = tokenizer(said["prompt"], return_tensors="pt").input_ids
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
    assert said["answer"] == tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    assert len(said["answer"].split()) > 3


def test_it_prints_and_draws_what_came_of_it(laptop):
    said = (laptop.root / "said.txt").read_text()
    report = json.loads((laptop.run / "report.json").read_text())
    assert set(report["heldout_loss"]) == {"teacher", "pruned", "distilled"}
    assert all(f"{loss:.4f}" in said for loss in report["heldout_loss"].values())
    assert report["recovered"] == chain.recovered(report["heldout_loss"])
    plain = said.replace(" %", "%")  # the closing line and the large figure are one
    assert all(words.format(report["recovered"]) in plain for words in ("won back {:.1%} of", "loss recovered  {:.1%}"))
    assert (laptop.run / "plots" / "losses.png").stat().st_size > 5000
    assert "the chosen answer wins in" in said and "python benchmarks/exercises.py distilled=" in said
    assert "Traceback" not in said and "Warning" not in said


def test_no_process_of_the_chain_imports_nemo_again(laptop):
    """Half a minute each: a stage that changes its environment before it starts another process makes it a fresh one."""
    logs = [laptop.root / "said.txt", laptop.run / "chain.log", *laptop.run.glob("*/log.txt")]
    assert len(logs) > len(STAGES)
    assert [str(log) for log in logs if log.is_file() and "imports NeMo by itself" in log.read_text(errors="replace")] == []


def test_the_baselines_have_the_students_sizes(laptop):
    """Chosen by chance it is a worse student, from random weights a worse one still."""
    given = ["+model=tiny_pl", "experiment=laptop_claims", *SHORT]
    links = {link.name: link.overrides for link in chain_plan.links(compose(given), given)}
    for name, recipe in (("random/prune", "prune"), ("scratch/pretrain", "pretrain")):
        own = [word for word in links[name] if word not in given and not word.startswith("run.name=")]
        ok(laptop.recipe(recipe, f"run.name=tiny_pl-laptop/{name.split('/')[0]}", *own))
    summaries = chain.read(laptop.run)
    values = heldout_losses.losses(summaries)
    assert values["distilled"] < values["from scratch, same tokens"]
    pruned, by_chance = (summaries[stage]["metrics"]["loss_after"] for stage in ("prune", "random/prune"))
    assert pruned < by_chance
    names = ("distilled", "pruned at random", "from scratch, same tokens")
    assert len({chain.parameters(summaries, name) for name in names}) == 1


def test_a_finished_chain_does_nothing(laptop):
    """But for the report, which follows the stages that other tests have left in the run."""
    stages = [stage for stage in STAGES if stage != "report"]
    summaries = [laptop.run / stage / "summary.json" for stage in stages]
    before = [path.stat().st_mtime_ns for path in summaries]
    again = laptop.recipe("minitron")
    said = again.stdout
    assert again.returncode == 0 and all(f"{laptop.run / stage} is finished with this" in said for stage in stages)
    assert before == [path.stat().st_mtime_ns for path in summaries]


def test_the_student_loads_in_transformers_and_writes(exported):
    folder = exported["distilled"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert (model.config.num_hidden_layers, model.config.intermediate_size, model.config.head_dim) == (6, 768, 32)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Stolicą Polski jest"}], add_generation_prompt=True)
    written = model.generate(torch.tensor([chat]), max_new_tokens=8, do_sample=False)
    assert written.shape[1] > len(chat) and tokenizer.decode(written[0, len(chat) :])


def test_exports_are_of_the_teachers_type_which_is_the_trained_weights_rounded(laptop, exported):
    exact, written = tensors(exported["distilled"]), tensors(laptop.run / "convert-export" / "hf")
    assert {value.dtype for value in exact.values()} == {torch.float32}
    assert {value.dtype for value in written.values()} == {torch.bfloat16}
    assert [name for name in exact if not torch.equal(exact[name].bfloat16(), written[name])] == []
    config = json.loads((laptop.run / "convert-export" / "hf" / "config.json").read_text())
    assert config["dtype"] == laptop.summary("convert-export")["dtype"] == "bfloat16"


def test_what_the_student_keeps_is_exactly_the_teachers(laptop, exported):
    teacher, pruned, kept = tensors(exported["teacher"]), tensors(exported["pruned"]), laptop.summary("prune")["kept_layers"]
    assert len(kept) == 6 and kept == sorted(set(kept))
    assert torch.equal(teacher["lm_head.weight"], pruned["lm_head.weight"])
    for place, layer in enumerate(kept):
        old, new = f"model.layers.{layer}.", f"model.layers.{place}."
        for name in ("input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj"):
            assert torch.equal(teacher[f"{old}{name}.weight"], pruned[f"{new}{name}.weight"]), (layer, name)
        rows = {tuple(row.tolist()): index for index, row in enumerate(teacher[f"{old}mlp.gate_proj.weight"])}
        neurons = [rows[tuple(row.tolist())] for row in pruned[f"{new}mlp.gate_proj.weight"]]
        assert len(set(neurons)) == 768
        assert torch.equal(teacher[f"{old}mlp.up_proj.weight"][neurons], pruned[f"{new}mlp.up_proj.weight"])
        assert torch.equal(teacher[f"{old}mlp.down_proj.weight"][:, neurons], pruned[f"{new}mlp.down_proj.weight"])


def test_the_first_loss_is_the_kl_divergence_that_transformers_computes(laptop, exported):
    """NeMo's first distillation loss against KL(teacher ‖ student) of the two exports on the same eight samples, in fp32."""
    teacher, student = (
        AutoModelForCausalLM.from_pretrained(exported[name], torch_dtype=torch.float32) for name in ("teacher", "pruned")
    )
    batch = torch.stack([train_batch(laptop, "distill", index) for index in range(8)])
    with torch.no_grad():
        want, got = teacher(batch).logits.log_softmax(-1), student(batch).logits.log_softmax(-1)
    divergence = kl_div(got, want, log_target=True, reduction="none").sum(-1).mean().item()
    assert abs(divergence - laptop.summary("distill")["metrics"]["kd_loss_first"]) < 1e-5


def test_heldout_losses_are_those_of_transformers(laptop, exported):
    """The losses that pruning and distillation report, against the exported models on the same windows."""
    prefix = next((laptop.root / ".tokens").glob("heldout-*/tokens.bin")).with_suffix("")
    metrics = {stage: laptop.summary(stage)["metrics"] for stage in ("prune", "distill")}
    for name, seq_length, reported, tolerance in (
        ("teacher", 256, metrics["prune"]["loss_before"], 1e-5),
        ("pruned", 256, metrics["prune"]["loss_after"], 1e-5),
        ("distilled", 64, metrics["distill"]["val_loss"], 1e-5),
        ("pruned", 64, metrics["distill"]["val_loss_first"], 1e-5),
        ("teacher", 64, metrics["distill"]["teacher_val_loss"], 1e-5),
    ):
        windows = [Windows(str(prefix), seq_length, HELDOUT)[index] for index in range(HELDOUT)]
        tokens, labels = (torch.stack([window[key] for window in windows]) for key in ("tokens", "labels"))
        with torch.no_grad():
            logits = AutoModelForCausalLM.from_pretrained(exported[name], torch_dtype=torch.float32)(tokens).logits
        assert abs(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()) - reported) < tolerance, name
