"""Small Hugging Face folders to convert: the bundled model's tokenizer, weights cut from its own or of the paper's shapes."""

import json
import shutil
import struct
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import hf_folder

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "assets" / "tiny_pl"
BIELIK_11B = Architecture(50, 4096, 14336, 32, 8, 128, 32128, rope_base=1e6)


def describe(to: Path, model: Architecture) -> None:
    """The bundled model's description files with the sizes of another."""
    to.mkdir(parents=True, exist_ok=True)
    for file in TINY.iterdir():
        if file.suffix in (".json", ".model", ".jinja"):
            shutil.copy(file, to)
    config = json.loads((TINY / "config.json").read_text()) | {
        "num_hidden_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.ffn_hidden_size,
        "num_attention_heads": model.num_attention_heads,
        "num_key_value_heads": model.num_query_groups,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "rope_theta": model.rope_base,
    }
    (to / "config.json").write_text(json.dumps(config))


def width_pruned(to: Path) -> Path:
    """Three layers, 192 channels, 704 neurons and half the heads of the bundled model: sizes that K-quants cannot pack."""
    sizes = Architecture(3, 192, 704, 4, 2, 32, 4096)
    describe(to, sizes)
    source = load_file(TINY / "model.safetensors")
    cut = {name: source[name][tuple(slice(size) for size in shape)] for name, shape in hf_folder.expected(sizes).items()}
    save_file({name: tensor.contiguous() for name, tensor in cut.items()}, to / "model.safetensors", {"format": "pt"})
    return to


def sparse(to: Path, model: Architecture, shards: int) -> list[Path]:
    """A folder of bf16 zeros that takes no disk: holes behind the headers, the layers shared out to `shards` files."""
    describe(to, model)
    groups: list[dict[str, tuple[int, ...]]] = [{} for _ in range(shards)]
    for name, shape in hf_folder.expected(model).items():
        layer = int(name.split(".")[2]) if name.startswith("model.layers.") else 0 if "embed" in name else model.num_layers - 1
        groups[layer * shards // model.num_layers][name] = shape
    files, places = [], {}
    for number, group in enumerate(groups, 1):
        file = to / f"model-{number:05}-of-{shards:05}.safetensors"
        header, at = {}, 0
        for name, shape in group.items():
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + 2 * prod(shape)]}
            at += 2 * prod(shape)
        packed = json.dumps(header).encode()
        with file.open("wb") as out:
            out.write(struct.pack("<Q", len(packed)) + packed)
            out.truncate(8 + len(packed) + at)
        files.append(file)
        places |= dict.fromkeys(group, file.name)
    (to / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return files


def noise(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Weights whose rows and columns are of very different size, as a trained model's are."""
    draw = torch.Generator().manual_seed(seed)
    scale = torch.exp(torch.randn(rows, 1, generator=draw)) * torch.exp(torch.randn(1, columns, generator=draw))
    return torch.randn(rows, columns, generator=draw) * scale * 0.02
