"""What tells one input from another without reading gigabytes: sizes, and a hash of the parts that a change would touch."""

from __future__ import annotations

import hashlib
from pathlib import Path

PART = 1 << 20  # bytes of each end of a file that are hashed; smaller files whole
CARD = "README.md"


def fingerprint(path: str | Path) -> str:
    """16 hexadecimal digits of a file or folder: relative names, sizes, and of each file its first and last MiB.

    The first MiB of a safetensors shard holds its header; config and index files are smaller than that. A Megatron prefix
    (`<prefix>.bin`, `<prefix>.idx`) counts as its two files. Time stamps and hidden files do not count, nor does a folder's
    model card: it is written when all the rest is done.

    Raises:
        FileNotFoundError: neither file, folder nor prefix.
    """
    path = Path(path)
    digest = hashlib.sha256()
    for name, file in _files(path):
        size = file.stat().st_size
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))  # a name may be any bytes
        with file.open("rb") as stream:
            digest.update(stream.read(PART))
            if size > PART:
                stream.seek(max(PART, size - PART))
                digest.update(stream.read(PART))
    return digest.hexdigest()[:16]


def _files(path: Path) -> list[tuple[str, Path]]:
    if path.is_dir():
        inside = ((file.relative_to(path), file) for file in path.rglob("*") if file.is_file() and file.name != CARD)
        return sorted((name.as_posix(), file) for name, file in inside if not any(part.startswith(".") for part in name.parts))
    if path.is_file():
        return [("", path)]
    pair = [(suffix, path.with_name(path.name + suffix)) for suffix in (".bin", ".idx")]
    if all(file.is_file() for _, file in pair):
        return pair
    raise FileNotFoundError(f"no file or folder {path}")
