"""A tiny random model of each family but the bundled one's and its like, through the chain by the command line."""

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import gguf
import pytest
import random_models
import torch
from laptop import REPOSITORY, Laptop, activations, ok, score, train_batch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, kl_div
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from nemo_plugins.configs.schema import AggregationConfig
from nemo_plugins.data.module import Windows
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.pruning.scores import Scores
from nemo_plugins.serving.chat_models import DecodingOptions, LlamaCppChatModel, TransformersChatModel, text_of

pytestmark = pytest.mark.nemo

HEADS, GROUPS, LAYERS = 8, 2, 3
SAMPLES, LENGTH, HELDOUT = 4, 32, 4
SHAPE = dict(
    vocab_size=4096, hidden_size=128, intermediate_size=192, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
    num_key_value_heads=GROUPS, max_position_embeddings=128, rope_theta=1e6, initializer_range=0.1,
    tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, dtype="float32",
)  # fmt: skip
LIKE_THE_BUNDLED_MODEL = ("mistral", "llama")
SLOW = ("llama_bias", "qwen2")  # with biases: in CI they are converted to the bit, and Qwen3's norms go through the chain
OTHERS = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in FAMILIES
    if name not in LIKE_THE_BUNDLED_MODEL
]
SETTINGS = (
    "platform.precision=fp32",
    "data.train=[assets/polish_text/heldout.jsonl.gz]",
    "data.heldout=[assets/polish_text/heldout.jsonl.gz]",
    f"data.heldout_samples={HELDOUT}",
    f"prune.calibration.samples={SAMPLES}",
    f"prune.calibration.seq_length={LENGTH}",
    "prune.num_layers=2",
    "prune.ffn_hidden_size=128",
    "prune.hidden_size=64",
    "prune.num_attention_heads=4",
    "distill.max_steps=2",
    f"distill.seq_length={LENGTH}",
    "distill.global_batch_size=2",
    "distill.warmup_steps=1",
    "distill.checkpoint_every=2",
    "distill.validate_every=2",
    "export.formats=[f32,fp8]",
    "export.verify.strings=20",
    "export.verify.windows=1",
    f"export.verify.seq_length={LENGTH}",
    "export.verify.prompts=2",
    "export.verify.new_tokens=8",
)


@dataclass(frozen=True)
class Family(Laptop):
    """The run of one family's model."""

    name: str

    @property
    def run(self) -> Path:
        return self.root / self.name

    @property
    def head_dim(self) -> int:
        """Hidden size over heads where llama.cpp wants that, else another."""
        return 16 if FAMILIES[self.name].gguf_square else 32

    @property
    def source(self) -> Path:
        return self.root.with_name(f"{self.name}-source")

    def hf(self, name: str) -> Path:
        """Hugging Face folder of the teacher, and of the students in fp32 as they were trained."""
        return {"teacher": self.source, "pruned": self.run / "pruned-hf" / "hf"}.get(name, self.run / "convert-export" / "hf")

    def command(self, name: str, *overrides: str) -> list[str]:
        start = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=from_hf", f"model.path={self.source}"]
        return [*start, f"run.name={self.name}", f"run.root={self.root}", *SETTINGS, *overrides]

    @cached_property
    def scores(self) -> Scores:
        return Scores.load(self.run / "prune" / "scores.safetensors")


@pytest.fixture(scope="module", params=OTHERS)
def family(request, tmp_path_factory) -> Family:
    made = Family(tmp_path_factory.mktemp("families") / "runs", request.param)
    kind = FAMILIES[made.name]
    config = CONFIG_MAPPING[kind.model_type](**kind.only, **SHAPE, head_dim=made.head_dim)
    random_models.write(config, made.source, bias_std=0.5)
    for stage in ("convert", "prune", "distill"):
        ok(made.recipe(stage))
    ok(made.recipe("convert", "convert.to=hf", "run.stage=pruned-hf", f"convert.source={made.run / 'prune'}"))
    ok(made.recipe("convert", "convert.to=hf"))
    ok(made.recipe("quantize"))
    return made


def test_importance_is_that_of_transformers(family):
    tokens = torch.stack([train_batch(family, "prune", index) for index in range(SAMPLES)])
    seen, how = activations(family.source, tokens), AggregationConfig()
    for where in ("ffn", "heads", "input_norm", "ffn_norm"):
        for layer, found in zip(family.scores.width(where, how), seen[where], strict=True):
            assert layer.numpy() == pytest.approx(score(found), rel=1e-4)


def test_the_pruned_student_is_cut_out_of_the_teacher(family):
    """Every tensor against slices by the scores: channels, neurons, the best heads of each group with their biases."""
    teacher, student, how = (
        load_file(family.source / "model.safetensors"),
        load_file(family.hf("pruned") / "model.safetensors"),
        AggregationConfig(),
    )
    hidden = best(family.scores.hidden(how), 64)
    wanted = {"model.embed_tokens.weight": teacher["model.embed_tokens.weight"][:, hidden]}
    wanted["model.norm.weight"] = teacher["model.norm.weight"][hidden]
    if "lm_head.weight" in teacher:
        wanted["lm_head.weight"] = teacher["lm_head.weight"][:, hidden]
    for place, layer in enumerate(family.summary("prune")["kept_layers"]):
        old, new = (f"model.layers.{number}." for number in (layer, place))
        neurons = best(family.scores.width("ffn", how)[layer], 128)
        ranked = family.scores.heads(how)[layer].view(GROUPS, -1).argsort(descending=True)[:, :2]
        keys = [rows.tolist() for rows in teacher[f"{old}self_attn.k_proj.weight"][:, hidden].split(family.head_dim)]
        # ModelOpt may put the groups in another order
        groups = [keys.index(rows.tolist()) for rows in student[f"{new}self_attn.k_proj.weight"].split(family.head_dim)]
        assert sorted(groups) == list(range(GROUPS))
        heads = [group * (HEADS // GROUPS) + int(head) for group in groups for head in ranked[group]]
        queries, values = channels(heads, family.head_dim), channels(groups, family.head_dim)
        kept = {
            "q_proj": (queries, hidden),
            "k_proj": (values, hidden),
            "v_proj": (values, hidden),
            "o_proj": (hidden, queries),
        }
        kept |= {"gate_proj": (neurons, hidden), "up_proj": (neurons, hidden), "down_proj": (hidden, neurons)}
        kept |= {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
        for key, value in teacher.items():
            if not key.startswith(old):
                continue
            name = key.removeprefix(old)
            part = name.split(".")[-2]
            wanted[f"{new}{name}"] = value if part in ("q_norm", "k_norm") else value[kept[part][0]]
            if value.dim() == 2:
                wanted[f"{new}{name}"] = wanted[f"{new}{name}"][:, kept[part][1]]
    assert student.keys() == wanted.keys()
    assert [key for key, value in wanted.items() if not torch.equal(value, student[key])] == []
    assert family.summary("prune")["student"]["parameters"] == sum(value.numel() for value in student.values())


def best(scores, count: int) -> torch.Tensor:
    return scores.argsort(descending=True)[:count]


def channels(heads: list[int], head_dim: int) -> list[int]:
    return [head * head_dim + channel for head in heads for channel in range(head_dim)]


def test_losses_are_those_of_transformers(family):
    """What pruning and distillation report, against the three folders in transformers."""
    models = {
        name: AutoModelForCausalLM.from_pretrained(family.hf(name), torch_dtype=torch.float32)
        for name in ("teacher", "pruned", "distilled")
    }
    prefix = next((family.root / ".tokens").glob("heldout-*/tokens.bin")).with_suffix("")
    windows = [Windows(str(prefix), LENGTH, HELDOUT)[index] for index in range(HELDOUT)]
    tokens, labels = (torch.stack([window[key] for window in windows]) for key in ("tokens", "labels"))
    batch = torch.stack([train_batch(family, "distill", index) for index in range(2)])
    with torch.no_grad():
        heldout = {name: cross_entropy(model(tokens).logits.flatten(0, 1), labels.flatten()) for name, model in models.items()}
        known, got = (models[name](batch).logits.log_softmax(-1) for name in ("teacher", "pruned"))
    pruned, distilled = (family.summary(stage)["metrics"] for stage in ("prune", "distill"))
    reported = {"teacher": pruned["loss_before"], "pruned": pruned["loss_after"], "distilled": distilled["val_loss"]}
    assert reported == pytest.approx({name: loss.item() for name, loss in heldout.items()}, abs=2e-5)
    divergence = kl_div(got, known, log_target=True, reduction="none").sum(-1).mean().item()
    assert distilled["kd_loss_first"] == pytest.approx(divergence, abs=2e-5)
    assert distilled["kd_loss_last"] != distilled["kd_loss_first"]


def test_formats_hold_what_is_the_familys(family):
    formats, folder = family.summary("quantize")["formats"], family.run / "quantize"
    assert formats["f32"]["kl"] == pytest.approx(0, abs=1e-5) and formats["f32"]["greedy_equal"] == 2
    assert 0 < formats["fp8"]["kl"] < 0.1
    [file] = folder.glob("gguf/*.gguf")
    reader = gguf.GGUFReader(file)
    assert reader.fields["general.architecture"].contents() == FAMILIES[family.name].gguf
    config = json.loads((family.hf("distilled") / "config.json").read_text())
    sizes = Architecture.from_hf(config)
    assert (sizes.head_dim, sizes.num_layers, sizes.family) == (family.head_dim, 2, family.name)
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == sizes.parameters()
    exact, fp8 = load_file(family.hf("distilled") / "model.safetensors"), load_file(folder / "fp8" / "model.safetensors")
    vectors = [key for key, value in exact.items() if value.dim() == 1]
    assert all(torch.equal(fp8[key], exact[key].bfloat16()) for key in vectors)
    stored = sum(value.numel() for key, value in fp8.items() if not key.endswith("_scale"))
    assert stored == sizes.parameters()


def test_both_backends_read_and_answer_a_dialogue(family):
    """Their tokens are compared. Answers of random weights are not: they part at near ties, for a chat's cache is in fp16
    (`tests/export/test_gguf_logprobs.py` holds the log-probabilities)."""
    [file] = (family.run / "quantize").glob("gguf/*.gguf")
    asked, options = [{"role": "user", "content": "Ile to jest 2 + 3?"}], DecodingOptions(8, 0.0, 1.0)
    one, other = LlamaCppChatModel(file, None, 1), TransformersChatModel(family.hf("distilled"), None, 1)
    assert one.ids(asked) == other.ids(asked)
    for speaker in (one, other):
        text_of(speaker.say(asked, options))
