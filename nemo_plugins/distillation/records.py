"""The files of an offline teacher: what it says of every training token, written once, read by any number of distillations.

    record.json                     what was recorded, and how many samples one file holds; written first
    shard-00000000.safetensors      samples 0 … of the training order; a file is named after its first sample
        …                           its most likely tokens or draws from its distribution: see `record_rows`
        tokens    [n, 16]           uint8, BLAKE2b-128 of each sample's token ids
        metadata: sha256            of these tensors' bytes, in their order there

A file that is there is whole, so recording goes on wherever it stopped. What NeMo and ModelOpt lack: they have no offline
teacher. The header can be read, and disk space be reckoned, without torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_plugins.distillation.record_rows import Rows, form
from nemo_plugins.runs import folder as files
from nemo_plugins.runs.errors import Failed, UserError
from nemo_plugins.runs.fingerprint import described

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1  # raised when the files change their meaning
SHARD = 64  # samples in a file: 51 MB for the 32 most likely of 4,096 tokens each
HEADER = "record.json"
HASH = 16  # bytes that tell one sample's tokens from another's
OPEN = 4  # files kept open: samples come nearly in order, so the next is in one of these
ONLY_WARNED = ("torch", "nemo-toolkit")  # they shuffle no data, and change logits by rounding alone
KEYS = {
    "text": "data.train",
    "exercises": "data.exercises",
    "seed": "run.seed",
    "seq_length": "distill.seq_length",
    "samples": "distill.max_steps × distill.global_batch_size",
    "temperature": "distill.loss.temperature",
    "top_k": "distill.loss.top_k",
    "draws": "distill.loss.draws",
    "document_boundaries": "data.document_boundaries",
}
FINGERPRINTS = ("teacher", "text")  # fields that hold them
AGAIN = "record again with teacher.mode=record"
GOES_ON = "it writes only what is missing"


@dataclass(frozen=True)
class Recorded:
    """What a record depends on.

    Attributes:
        teacher: fingerprint of the teacher's checkpoint.
        tokenizer: fingerprint of the tokenizer.
        text: fingerprints of the sources of the training text, in their order.
        exercises: how many were mixed in.
        samples: of the training order; the shuffle depends on it, so the start of a longer training has another order.
        top_k: most likely tokens kept of each position; None: tokens are drawn.
        vocabulary: tokens of the teacher's output, padding included.
        precision: that the teacher computed in.
        document_boundaries: whether attention starts anew at each document; the tokens do not show it, the logits do.
        draws: tokens drawn for each position; None: the most likely are kept.
    """

    teacher: str
    tokenizer: str
    text: list[str]
    exercises: int
    seed: int
    seq_length: int
    samples: int
    temperature: float
    top_k: int | None
    vocabulary: int
    precision: str
    versions: dict[str, str] = field(default_factory=dict)
    document_boundaries: bool = False
    format: int = FORMAT
    draws: int | None = None

    @property
    def rows(self) -> Rows:
        """The form of its samples."""
        return form(self.top_k, self.draws, self.vocabulary)

    def refusals(self, other: Recorded) -> list[str]:
        """Why what was recorded as `self` says cannot serve a distillation that asks for `other`; empty where it can."""
        names = [each.name for each in fields(self) if each.name != "versions"]
        differ = [(name, getattr(self, name), getattr(other, name), KEYS.get(name)) for name in names]
        differ += [(name, there, wanted, None) for name, there, wanted in self._versions(other) if name not in ONLY_WARNED]
        return [
            f"{name}: {_shown(name, there)} there, {_shown(name, wanted)} asked for" + (f" ({key})" if key else "")
            for name, there, wanted, key in differ
            if there != wanted
        ]

    def warnings(self, other: Recorded) -> list[str]:
        """Versions that differ and need not matter."""
        pairs = [each for each in self._versions(other) if each[0] in ONLY_WARNED]
        return [f"{name}: {there} there, {here} here" for name, there, here in pairs if there != here]

    def _versions(self, other: Recorded) -> list[tuple[str, str | None, str | None]]:
        return [(each, self.versions.get(each), other.versions.get(each)) for each in sorted(self.versions | other.versions)]


def _shown(name: str, value: Any) -> object:
    if name not in FINGERPRINTS:
        return value
    return described(value) if isinstance(value, str) else [described(one) for one in value]


def versions() -> dict[str, str]:
    """Versions that a record depends on: Megatron's decides the order of the samples."""
    return {name: metadata.version(name) for name in ("megatron-core", "nemo-toolkit", "torch")}


def read_header(folder: Path) -> tuple[Recorded, int]:
    """What was recorded, and samples a file.

    Raises:
        UserError: no such file, or not one of ours.
    """
    path = Path(folder) / HEADER
    if not path.is_file():
        raise UserError(f"teacher.record: no file {path}", "expected the folder of a recorded teacher", AGAIN)
    try:
        content = json.loads(path.read_text())
        shard = content["shard"]
        if not isinstance(shard, int) or shard < 1:
            raise ValueError(f"{shard} samples a file")
        recorded = Recorded(**content["recorded"])
        if recorded.top_k is recorded.draws is None:
            raise ValueError("neither top_k nor draws")
        return recorded, shard
    except (KeyError, TypeError, ValueError):
        says = f"teacher.record: {path} does not say what was recorded"
        raise UserError(says, "expected a file that this project wrote", AGAIN) from None


def check(folder: Path, asked: Recorded) -> list[str]:
    """Hold a folder against what a distillation asks for. Returns: warnings. Raises UserError with all that differs."""
    found, _ = read_header(folder)
    if reasons := found.refusals(asked):
        lines = (f"  {reason}" for reason in reasons)
        ways_out = f"{AGAIN} and another teacher.record=, or ask for what was recorded"
        raise UserError(f"teacher.record: {folder} holds another recording than asked for:", *lines, ways_out)
    return found.warnings(asked)


class Writer:
    """Writes a record, or goes on with one. Any number of processes may write to one folder, each its own part.

    Attributes:
        warnings: versions in which the recording that goes on differs from the one that began.
    """

    def __init__(self, folder: Path, header: Recorded, shard: int = SHARD):
        """`shard` is the samples a file of a new record; one that goes on keeps its own.

        Raises:
            UserError: the folder holds another recording, or files without a header.
        """
        self.folder = Path(folder)
        orphans = sorted(self.folder.glob("shard-*.safetensors"))  # before the look at the header, which another may write now
        if not (self.folder / HEADER).is_file():
            if orphans:
                says = f"teacher.record: {self.folder} holds {len(orphans)} files such as {orphans[0].name}, but no {HEADER}"
                raise UserError(says, "nothing says whose they are; give another teacher.record=, or delete them")
            content = {"recorded": asdict(header), "shard": shard}
            files.write(self.folder / HEADER, json.dumps(content, indent=2) + "\n")
        self.warnings = check(self.folder, header)
        self.recorded, self.shard = read_header(self.folder)

    def missing(self, part: int = 0, parts: int = 1) -> list[range]:
        """Samples of each file that is not there yet, for process `part` of `parts`; all files are dealt out in turn."""
        if not 0 <= part < parts:
            raise ValueError(f"part must be from 0 to {parts - 1}, got {part}")
        mine = _shards(self.recorded, self.shard)[part::parts]
        return [samples for samples in mine if not _path(self.folder, samples.start).is_file()]

    def write(self, first: int, samples: dict[str, Tensor]) -> None:
        """Write one file whole.

        Args:
            first: number of the first sample, the start of a range of `missing`.
            samples: n of them, the range's length: what the form of the record's rows reads, `[n, s, …]`, `indices` in any
                integers and the others in fp32; `tokens` `[n, s]`, the ids that went into the teacher. On any device.

        Raises:
            ValueError: other shapes, types or indices than the header says.
            Failed: the teacher gave nan.
            OSError: the disk is full, …; nothing is left of the file then.
        """
        from safetensors.torch import save

        tensors = _payload(self.recorded, self.shard, first, samples)
        path = _path(self.folder, first)
        for leftover in self.folder.glob(f".{path.name}.*"):  # of a process that was killed; no other writes this file
            leftover.unlink(missing_ok=True)
        files.write(path, save(tensors, metadata={"sha256": _sha256(self.recorded.rows, tensors.__getitem__)}))

    def bytes_per_token(self) -> float:
        """Of a complete record, without the tokens' hashes and the files' headers where each position takes as much."""
        if self.recorded.rows.exact:
            return self.recorded.rows.bytes_per_token()
        size = sum(_path(self.folder, samples.start).stat().st_size for samples in _shards(self.recorded, self.shard))
        return size / (self.recorded.samples * self.recorded.seq_length)


class Reader:
    """Reads a record that is complete. In each process its own: files stay mapped.

    Attributes:
        warnings: versions in which the recording differs from this process.
    """

    def __init__(self, folder: Path, asked: Recorded):
        """Raises UserError for another recording than `asked`, files that are missing and files that were cut short."""
        self.folder = Path(folder)
        self.warnings = check(self.folder, asked)
        self.recorded, self.shard = read_header(self.folder)
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._verified: set[int] = set()
        shards = _shards(self.recorded, self.shard)
        missing = [samples for samples in shards if not _path(self.folder, samples.start).is_file()]
        if missing:
            lacks = f"{len(missing):,} of its {len(shards):,} files, the first {_path(self.folder, missing[0].start).name}"
            raise UserError(f"teacher.record: {self.folder} lacks {lacks}", f"{AGAIN}: {GOES_ON}")
        of_sample = self.recorded.rows.least_bytes(self.recorded.seq_length) + HASH
        for samples in shards:  # so that a file cut short is found now, not hours later
            path = _path(self.folder, samples.start)
            if (size := path.stat().st_size) < len(samples) * of_sample:
                raise _damaged(path, f"{size:,} bytes are fewer than its {len(samples)} samples take")

    def sample(self, i: int, tokens: Tensor) -> dict[str, Tensor]:
        """What was recorded of sample `i` of the training order.

        Args:
            tokens: `[s]`, the ids of that sample now.
        Returns: what the form of the record's rows reads, `[s, …]` on the CPU: `indices` in int32, the others in fp32.

        Raises:
            IndexError: the training order has no sample `i`.
            UserError: other tokens were recorded, or the file is damaged.
        """
        if not 0 <= i < self.recorded.samples:
            raise IndexError(f"sample must be from 0 to {self.recorded.samples - 1}, got {i}")
        first = i - i % self.shard
        file = self._file(first)
        if not file.get_slice("tokens")[i - first].equal(_hashes(tokens[None])[0]):
            says = f"teacher.record: the data order changed at sample {i}: its tokens are not those recorded in {self.folder}"
            raise UserError(says, f"expected the text and order of the recording; go back to them, or {AGAIN}")
        return self.recorded.rows.unpack(file, i - first)

    def _file(self, first: int) -> Any:
        from safetensors import SafetensorError, safe_open

        if first in self._open:
            self._open.move_to_end(first)
            return self._open[first]
        path = _path(self.folder, first)
        try:
            file = safe_open(path, framework="pt")
            if first not in self._verified:
                if (file.metadata() or {}).get("sha256") != _sha256(self.recorded.rows, file.get_tensor):
                    raise _damaged(path, "its SHA-256 is not the one that was written")
                self._verified.add(first)
        except SafetensorError as error:
            raise _damaged(path, str(error)) from None
        self._open[first] = file
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
        return file


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"teacher.record: {path} is damaged: {why}", f"delete that file and {AGAIN}: {GOES_ON}")


def _path(folder: Path, first: int) -> Path:
    return folder / f"shard-{first:08d}.safetensors"


def _shards(recorded: Recorded, shard: int) -> list[range]:
    return [range(first, min(first + shard, recorded.samples)) for first in range(0, recorded.samples, shard)]


def _payload(recorded: Recorded, shard: int, first: int, samples: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one file, held against the header."""
    import torch

    n, s, rows = min(shard, recorded.samples - first), recorded.seq_length, recorded.rows
    if first % shard or n < 1:
        raise ValueError(f"first must be a multiple of {shard} below {recorded.samples}, got {first}")
    wanted = {**{name: [n, s, *of_token] for name, of_token in rows.shapes().items()}, "tokens": [n, s]}
    if (got := {name: list(samples[name].shape) for name in wanted}) != wanted:
        raise ValueError(f"expected {wanted} for the samples from {first}, got {got}")
    kept = {name: samples[name].detach().cpu() for name in rows.shapes()}
    numbers = {name: value for name, value in kept.items() if name != "indices"}
    if {value.dtype for value in numbers.values()} != {torch.float32}:
        raise ValueError(f"expected float32, got {', '.join(f'{name} in {value.dtype}' for name, value in numbers.items())}")
    bad = torch.stack([value.isnan().reshape(n, -1).any(1) for value in numbers.values()]).any(0).nonzero().flatten().tolist()
    if bad:
        raise Failed(f"the teacher's probabilities of sample {first + bad[0]} of the training order are not numbers (nan)")
    lowest, highest = kept["indices"].aminmax()
    if lowest < 0 or highest >= recorded.vocabulary:
        raise ValueError(f"expected indices from 0 to {recorded.vocabulary - 1}, got {int(lowest)} to {int(highest)}")
    tensors = {**rows.pack(kept), "tokens": _hashes(samples["tokens"])}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _hashes(tokens: Tensor) -> Tensor:
    """BLAKE2b-128 of each row of `[n, s]` as little-endian int64, `[n, 16]` in uint8."""
    import torch

    rows = tokens.detach().cpu().numpy().astype("<i8")
    return torch.tensor([list(hashlib.blake2b(row.tobytes(), digest_size=HASH).digest()) for row in rows], dtype=torch.uint8)


def _sha256(rows: Rows, tensor: Callable[[str], Tensor]) -> str:
    """Of the bytes of a file's tensors, each given by its name."""
    import torch

    digest = hashlib.sha256()
    for name in (*rows.tensors, "tokens"):
        digest.update(tensor(name).reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
