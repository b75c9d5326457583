"""What a Hugging Face folder holds, tensor by tensor, from its headers alone: names, shapes, where the bytes are.

Whatever turns weights into another format starts here, so that a wrong folder costs a second and no output.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_plugins.models import hf_config
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES, titles
from nemo_plugins.planning import weights
from nemo_plugins.runs.errors import Unusable, UserError

BYTES = {"F32": 4, "F16": 2, "BF16": 2}
LINEAR = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
BUFFERS = ".rotary_emb.inv_freq"  # of old Llamas: computed from θ, which transformers does again
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
CODE = ("config.json", "tokenizer_config.json", "generation_config.json")  # files that can name code of the folder


@dataclass(frozen=True)
class Tensor:
    """A tensor of a safetensors file; its bytes are `start` to `stop` of `shard`, row-major."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: Path
    start: int
    stop: int

    @property
    def is_linear(self) -> bool:
        """Whether it is the weight of a linear layer inside the layers."""
        return self.name.removesuffix(".weight").endswith(LINEAR)


@dataclass(frozen=True)
class HfFolder:
    """A whole folder of a model of one of the families.

    Attributes:
        tensors: by name, in the order of the files.
        tokens: ids that the tokenizer can make, from 0.
    """

    path: Path
    config: dict[str, Any]
    architecture: Architecture
    tensors: dict[str, Tensor]
    tokens: int

    @property
    def shards(self) -> list[Path]:
        return list(dict.fromkeys(tensor.shard for tensor in self.tensors.values()))

    @property
    def dtype(self) -> str:
        """Of all weights, or F32 where they differ: what holds each of them exactly."""
        found = {tensor.dtype for tensor in self.tensors.values()}
        return found.pop() if len(found) == 1 else "F32"

    @property
    def bytes_per_value(self) -> int:
        return BYTES[self.dtype]


def read(folder: Path, key: str, *, pad_vocabulary: bool = False) -> HfFolder:
    """Hold a folder against its own `config.json`.

    Args:
        key: configuration key that named it, for messages.
        pad_vocabulary: rows of the embedding that no token has are fine.
    Raises:
        UserError: a file is missing or cut short; a tensor is unknown, missing, of another shape or not in floating point; the
            tokenizer and the embedding do not fit.
        Unusable: as `describe`.
    """
    weights.check(folder, key)
    config = describe(folder, key)
    architecture = Architecture.from_hf(config)
    tensors = {name: tensor for name, tensor in stored(folder, key).items() if not name.endswith(BUFFERS)}
    _check_tensors(folder, key, architecture, tensors)
    tokens = vocabulary(folder, key)
    _check_vocabulary(folder, key, architecture.vocab_size, tokens, pad_vocabulary)
    return HfFolder(folder, config, architecture, tensors, tokens)


def describe(folder: Path, key: str) -> dict[str, Any]:
    """The `config.json` of a folder whose arithmetic is understood whole.

    Raises:
        UserError: it cannot be read.
        Unusable: a field is not understood (`models/hf_config.py`), a file names code, or the weights are quantised.
    """
    config = _json(folder / "config.json", key)
    for name in CODE:
        if (folder / name).is_file() and "auto_map" in _json(folder / name, key):
            raise Unusable(
                f"{key}: {folder / name} names code to run (auto_map)",
                f"expected a {titles()} folder that transformers loads by itself; no folder's own code is run here",
            )
    if config.get("quantization_config"):
        raise Unusable(f"{key}: {folder} is quantised already", "expected the folder that it was made from")
    try:
        hf_config.check(config)
    except ValueError as error:
        raise Unusable(f"{key}: cannot use {folder / 'config.json'}: {error}") from None
    return config


def stored(folder: Path, key: str) -> dict[str, Tensor]:
    """The tensors of a folder by name, in the order of its files; where there is an index, of each file what it names there.

    Raises:
        UserError: a file that the index names is missing, or lacks a tensor that the index has in it.
    """
    places = weights.weight_map(folder, key)
    found = {
        tensor.name: tensor
        for shard in weights.shards(folder, key)
        for tensor in headers(shard)
        if places is None or places.get(tensor.name) == shard.name
    }
    if places is not None and (lost := sorted(places.keys() - found.keys())):
        raise UserError(
            f"{key}: {folder / places[lost[0]]} lacks {lost[0]}", f"{weights.INDEX} has it there; fetch the folder again"
        )
    return found


def headers(shard: Path) -> list[Tensor]:
    """The tensors of a whole safetensors file, in the order of their bytes."""
    header, begin = weights.header(shard)
    found = [
        Tensor(name, entry["dtype"], tuple(entry["shape"]), shard, *(begin + at for at in entry["data_offsets"]))
        for name, entry in header.items()
        if name != "__metadata__"
    ]
    return sorted(found, key=lambda tensor: tensor.start)


def expected(model: Architecture) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's tensors."""
    hidden, ffn = model.hidden_size, model.ffn_hidden_size
    query, keys = model.query_size, model.key_size
    linear = ((query, hidden), (keys, hidden), (keys, hidden), (hidden, query), (ffn, hidden), (ffn, hidden), (hidden, ffn))
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in zip(LINEAR, linear, strict=True)}
    shapes |= {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    shapes |= {vector.hf: (size,) for vector, size in model.layer_vectors}
    found = {EMBEDDING: (model.vocab_size, hidden), "model.norm.weight": (hidden,)}
    if not model.tied_embeddings:
        found[OUTPUT] = (model.vocab_size, hidden)
    for layer in range(model.num_layers):
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in shapes.items()}
    return found


def vocabulary(folder: Path, key: str) -> int:
    """One more than the largest id that the folder's tokenizer makes."""
    file = folder / "tokenizer.json"
    if file.is_file():
        content = _json(file, key)
        try:
            pieces = content["model"]["vocab"]
            ids = [len(pieces) - 1, *(pieces.values() if isinstance(pieces, dict) else ())]
            return 1 + max([*ids, *(added["id"] for added in content.get("added_tokens", ()))])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{key}: {file} holds no vocabulary", "fetch this file again") from None
    from sentencepiece import SentencePieceProcessor

    file = folder / "tokenizer.model"
    try:
        pieces = SentencePieceProcessor(model_file=str(file)).get_piece_size()
    except RuntimeError:
        raise UserError(f"{key}: {file} is no SentencePiece model", "fetch this file again") from None
    added = folder / "added_tokens.json"
    return max([pieces, *(1 + number for number in _json(added, key).values())]) if added.is_file() else pieces


def _check_tensors(folder: Path, key: str, model: Architecture, tensors: dict[str, Tensor]) -> None:
    wanted = expected(model)
    spare = {OUTPUT} if model.tied_embeddings else set()  # some tied folders store it all the same
    if unknown := sorted(tensors.keys() - wanted.keys() - spare):
        raise UserError(
            f"{key}: {folder} has a tensor that no {FAMILIES[model.family].title} has: {unknown[0]}"
            + (f" (and {len(unknown) - 1} more)" if unknown[1:] else ""),
            "expected the folder of a plain model: adapters merged, nothing quantised, no vision tower",
        )
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise UserError(
            f"{key}: {folder} lacks {missing[0]}" + (f" and {len(missing) - 1} more tensors" if missing[1:] else ""),
            f"config.json says {model.num_layers} layers; fetch or export the folder again",
        )
    for name, shape in wanted.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise UserError(
                f"{key}: {name} is {list(tensor.shape)} in {tensor.shard.name}",
                f"config.json says {list(shape)} (head_dim {model.head_dim}, {model.num_attention_heads} heads, "
                f"{model.num_query_groups} groups, hidden {model.hidden_size}, FFN {model.ffn_hidden_size}); "
                "one of the two is another model's",
            )
        if tensor.dtype not in BYTES:
            raise UserError(
                f"{key}: {name} is {tensor.dtype}", f"expected one of {', '.join(BYTES)}: weights not quantised yet"
            )


def _check_vocabulary(folder: Path, key: str, rows: int, tokens: int, pad: bool) -> None:
    if tokens > rows:
        raise UserError(
            f"{key}: the tokenizer of {folder} makes ids up to {tokens - 1}, the embedding has {rows} rows",
            "expected a row for every token; the tokenizer is another model's",
        )
    if tokens < rows and not pad:
        raise UserError(
            f"{key}: the vocabulary of {folder} is larger than its tokenizer: {rows} rows, {tokens} tokens",
            "what the model says with the others has no text; where they are padding, "
            f"export.pad_vocabulary=true calls them [PAD{tokens}] to [PAD{rows - 1}]",
        )


def _json(file: Path, key: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{key}: {file} cannot be read ({error})", "expected JSON; fetch this file again") from None
    if not isinstance(content, dict):
        raise UserError(f"{key}: {file} holds no JSON object", "fetch this file again")
    return content
