"""A format after writing: loaded again, its numbers and its tokenizer held against the folder that it was made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nemo_plugins.data.spelling import spelled
from nemo_plugins.export import gguf_file, reference
from nemo_plugins.export.reference import Reference
from nemo_plugins.models import hf_model
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import weights
from nemo_plugins.planning.hf_folder import HfFolder
from nemo_plugins.runs.errors import Failed
from nemo_plugins.serving.llama_cpp import LlamaCpp

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Cut:
    """A string with the source's tokens; `is_chat`: it is a rendered dialogue, control tokens written out."""

    text: str
    tokens: list[int]
    is_chat: bool


def puts_space_behind_specials(tokenizer) -> bool:
    """Whether text behind a special token begins with a space of the tokenizer's own making, as in the first Llamas."""
    special = tokenizer.eos_token
    return tokenizer.tokenize(f"{special}a")[1].startswith("▁")


def gguf(
    file: Path, folder: HfFolder, tokenizer, strings: Sequence[Cut], known: Reference | None, threads: int
) -> dict[str, Any]:
    """Load a GGUF file in llama.cpp and compare.

    Returns: the numbers of its line in the summary.
    Raises:
        Failed: the header contradicts the folder, or the tokenizers differ.
    """
    window = len(known.windows[0]) if known and known.windows else 0
    longest = (
        max((len(prompt) + len(answer) for prompt, answer in zip(known.prompts, known.answers, strict=True)), default=0)
        if known
        else 0
    )
    model = LlamaCpp(file, context=max(window, longest + 1, 64), threads=threads, exact=True)
    try:
        _header(model, file, folder, tokenizer)
        result = _same_tokens(file, tokenizer, strings, _llama_plain(model, tokenizer), model.tokenize)
        if known:
            result |= known.numbers(model.logits, lambda prompt, new: list(model.stream(prompt, new_tokens=new)))
    finally:
        model.close()
    return result | {"bytes": file.stat().st_size, "kinds": gguf_file.mix(gguf_file.kinds(file))}


def hf(
    folder: Path, source: HfFolder, tokenizer, strings: Sequence[Cut], known: Reference | None, device: str
) -> dict[str, Any]:
    """Load a Hugging Face folder in another format in transformers and compare. As `gguf`."""
    result = described(folder, source, tokenizer, strings)
    if known:
        model = hf_model.load(folder, torch.bfloat16).to(device)
        result |= known.numbers(partial(reference.logits, model), partial(reference.answer, model))
    return result


def described(folder: Path, source: HfFolder, tokenizer, strings: Sequence[Cut]) -> dict[str, Any]:
    """What a Hugging Face folder says beside its weights: tokenizer, chat template, head_dim. As `gguf`."""
    own = hf_model.tokenizer(folder)
    if own.chat_template != tokenizer.chat_template:
        raise Failed(f"{folder}: its chat template is not that of {source.path}")
    head_dim = json.loads((folder / "config.json").read_text()).get("head_dim")
    if head_dim != source.architecture.head_dim:
        raise Failed(f"{folder}: config.json says head_dim {head_dim}, the weights have {source.architecture.head_dim}")

    def plain(text: str) -> list[int]:
        return own(text, add_special_tokens=False)["input_ids"]

    result = _same_tokens(folder, tokenizer, strings, plain, plain)
    return result | {"bytes": sum(file.stat().st_size for file in weights.shards(folder, "export"))}


def _header(model: LlamaCpp, file: Path, folder: HfFolder, tokenizer) -> None:
    """What decides how the weights are read: sizes, head_dim, the chat template, the tokens that end a turn."""
    data, sizes = model.metadata, folder.architecture
    kind = FAMILIES[sizes.family].gguf
    absent = str(sizes.hidden_size // sizes.num_attention_heads)  # llama.cpp's own default
    head_dim = data.get(f"{kind}.attention.key_length") or data.get(f"{kind}.rope.dimension_count") or absent
    said = {
        "general.architecture": kind,
        f"{kind}.block_count": sizes.num_layers,
        f"{kind}.embedding_length": sizes.hidden_size,
        f"{kind}.feed_forward_length": sizes.ffn_hidden_size,
        f"{kind}.attention.head_count": sizes.num_attention_heads,
        f"{kind}.attention.head_count_kv": sizes.num_query_groups,
    }
    wrong = [f"{key} {data.get(key)} for {value}" for key, value in said.items() if data.get(key) != str(value)]
    if head_dim != str(sizes.head_dim):
        wrong.append(f"head_dim {head_dim} for {sizes.head_dim}")
    if wrong:
        raise Failed(f"{file} contradicts {folder.path / 'config.json'}: {'; '.join(wrong)}")
    if (data.get("tokenizer.chat_template") or None) != (tokenizer.chat_template or None):
        raise Failed(f"{file}: its chat template is not that of {folder.path}")
    ends = _ends(folder, tokenizer)
    if missed := [token for token in ends if not model.is_end(token)]:
        raise Failed(f"{file}: llama.cpp speaks on behind {tokenizer.convert_ids_to_tokens(missed)}, an end in {folder.path}")


def _ends(folder: HfFolder, tokenizer) -> list[int]:
    file = folder.path / "generation_config.json"
    ends = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
    return ends if isinstance(ends, list) else [tokenizer.eos_token_id if ends is None else ends]


def _llama_plain(model: LlamaCpp, tokenizer) -> Encode:
    """llama.cpp's tokens of a text by itself. Where it adds no space, the first one is added here as the tokenizer does."""
    adds = not model.adds_space and tokenizer.tokenize("a")[0].startswith("▁")
    specials = tuple(tokenizer.all_special_tokens)

    def encode(text: str) -> list[int]:
        return model.tokenize(f" {text}" if adds and not text.startswith((" ", "▁", *specials)) else text)

    return encode


def cut(tokenizer, texts: Sequence[str]) -> list[Cut]:
    """The source's tokens of each string by itself, and as what a user says where there is a chat template."""
    rendered = list(texts) + [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        for text in (texts if tokenizer.chat_template else ())
    ]
    tokens = tokenizer(rendered, add_special_tokens=False)["input_ids"] if rendered else []
    return [
        Cut(text, ids, is_chat=number >= len(texts)) for number, (text, ids) in enumerate(zip(rendered, tokens, strict=True))
    ]


def _same_tokens(where: Path, tokenizer, strings: Sequence[Cut], plain: Encode, rendered: Encode) -> dict[str, Any]:
    for one in strings:
        theirs = (rendered if one.is_chat else plain)(one.text)
        if theirs != one.tokens:
            raise Failed(
                f"{where}: its tokenizer cuts {one.text!r} otherwise",
                f"  transformers {spelled(tokenizer, one.tokens)}",
                f"  this file    {spelled(tokenizer, theirs)}",
            )
    return {"strings_equal": sum(not one.is_chat for one in strings), "chats_equal": sum(one.is_chat for one in strings)}
