"""Scores on disk: tensors as safetensors, and in its header what they were measured with. Read whole only where torch is.

What ModelOpt lacks: it keeps scores as a pickle, with nothing that says of which model, and only for the pipeline layout that
measured them. Here layers are numbered through the whole model.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from nemo_plugins.planning import weights
from nemo_plugins.runs import folder
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.fingerprint import described

FORMAT = 1  # raised when the tensors change their meaning


@dataclass(frozen=True)
class Measured:
    """What scores depend on.

    Attributes:
        teacher: fingerprint of the teacher's checkpoint.
        layer_spec: `transformer_engine` or `local`.
        text: fingerprints of the sources of the calibration text, in their order, and what decides how they are read.
        exercises: how many were mixed in.
        subsets: parts of the calibration whose scores are kept apart.
    """

    teacher: str
    architecture: dict[str, Any]
    layer_spec: str
    precision: str
    samples: int
    seq_length: int
    micro_batch_size: int
    seed: int
    text: list[str]
    exercises: int
    subsets: int
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def refusals(self, other: Measured) -> list[str]:
        """Why scores measured as `self` says cannot prune the teacher of `other`; empty where they can."""
        pairs = {
            "format of the file": (self.format, other.format),
            "teacher": (described(self.teacher), described(other.teacher)),
            "layer spec": (self.layer_spec, other.layer_spec),
            "ModelOpt": (self.versions.get("nvidia-modelopt"), other.versions.get("nvidia-modelopt")),
        }
        differ = [f"{name}: {there} there, {here} here" for name, (there, here) in pairs.items() if there != here]
        return differ + self.differences(other.architecture)

    def differences(self, architecture: dict[str, Any]) -> list[str]:
        """Sizes in which the measured teacher is not this one."""
        mine = self.architecture
        return [f"{key}: {mine.get(key)} there, {value} here" for key, value in architecture.items() if mine.get(key) != value]


def layer_spec(has_transformer_engine: bool) -> str:
    """Name of the layers that a teacher is measured with."""
    return "transformer_engine" if has_transformer_engine else "local"


def versions() -> dict[str, str]:
    """Versions that scores depend on."""
    return {name: metadata.version(name) for name in ("nvidia-modelopt", "megatron-core", "nemo-toolkit", "torch")}


def read_header(path: Path, key: str = "prune.scores") -> Measured:
    """What a file of scores was measured with; the tensors stay on disk.

    Raises:
        UserError: no such file, not whole, or not one of ours.
    """
    if not path.is_file():
        raise UserError(f"{key}: no file {path}", "expected the scores.safetensors that a pruning or a search left")
    weights.check_shard(path, key)
    try:
        return Measured(**json.loads(weights.header(path)[0]["__metadata__"]["measured"]))
    except (KeyError, TypeError, ValueError):
        says = f"{key}: {path} does not say what it was measured with"
        raise UserError(says, "expected a file that this project wrote") from None


def check(path: Path, asked: Measured, key: str = "prune.scores") -> Measured:
    """The header of scores that may be used for `asked`. Raises UserError with what differs."""
    header = read_header(path, key)
    if reasons := header.refusals(asked):
        raise UserError(f"{key}: {path} holds scores of another teacher or version:", *(f"  {reason}" for reason in reasons))
    return header


def save(path: Path, tensors: dict, measured: Measured) -> None:
    """Write scores whole.

    Raises:
        OSError: the disk is full, …; nothing is left of the file then.
    """
    from safetensors.torch import save as to_bytes

    header = {"measured": json.dumps(asdict(measured), sort_keys=True)}
    folder.write(path, to_bytes({name: value.contiguous() for name, value in tensors.items()}, metadata=header))


def load(path: Path) -> dict:
    """The tensors by name, on the CPU."""
    from safetensors.torch import load_file

    return load_file(path)


def key(measured: Measured) -> str:
    """Name under which scores are kept: equal where all that they depend on is equal."""
    return hashlib.sha256(json.dumps(asdict(measured), sort_keys=True).encode()).hexdigest()[:16]
