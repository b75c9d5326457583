"""A small corpus with one of everything that a corpus should be rid of, and the command that cleans it."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import warm_start

from nemo_plugins.configs.store import REPOSITORY

TEXT = REPOSITORY / "assets" / "polish_text"
ENGLISH = (
    "The quick brown fox jumps over the lazy dog, and everybody in the village is surprised that it does so every morning. "
    "Nobody has ever seen the dog complain about it, which is why the fox keeps coming back. "
)
SPAM = "tanie noclegi opinie, tanie noclegi cena, najlepsze noclegi online, noclegi Kraków tanio, noclegi sklep, " * 8
ITEMS = [
    "Które z wymienionych miast leży nad rzeką, która wpływa do morza najdalej na wschód od stolicy tego kraju?",
    "Jakie jest najgłębsze jezioro w Polsce?",
]
PERSON = "Pani Anna ma PESEL 44051401359, adres anna@example.pl i konto PL61 1090 1014 0000 0712 1981 2874."


def real(count: int) -> list[str]:
    with gzip.open(TEXT / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines][:count]


def build(folder: Path, count: int = 240) -> dict[str, int]:
    """Write files of every kind. Returns how many documents are dropped for which reason; all others are good."""
    folder.mkdir()
    rng, texts = random.Random(4), real(count)
    good = [json.dumps({"text": text, "source": "good"}, ensure_ascii=False) for text in texts]
    usual = [place for place, text in enumerate(texts) if 800 < len(text) < 3000 and "Basic" not in text]
    exact = [json.dumps({"text": f"  {texts[place]}\n\n\n"}, ensure_ascii=False) for place in usual[:10]]
    near = [json.dumps({"text": texts[place].rsplit(" ", 3)[0] + " i już."}, ensure_ascii=False) for place in usual[10:20]]
    disguises = [ITEMS[0], ITEMS[0].upper(), ITEMS[1], ITEMS[1].replace(" ", ", ")]
    hidden = [f"{texts[place]}\n{item}" for place, item in zip(usual[20:24], disguises, strict=True)]
    others = [json.dumps({"text": text}, ensure_ascii=False) for text in (ENGLISH * 2, SPAM, *hidden)]
    good[usual[24]] = json.dumps({"text": f"{texts[usual[24]]}\n{PERSON}"}, ensure_ascii=False)
    for place in usual[23:19:-1]:
        del good[place]
    broken = ['{"text": 5}', "{oj", '{"tekst": "x"}', '{"text": ""}']
    lines = good + others + broken
    rng.shuffle(lines)
    lines += exact + near
    thirds = [lines[place::3] for place in range(3)]
    (folder / "a.jsonl").write_text("\n".join(thirds[0]), encoding="utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(thirds[1]).encode()))
    (folder / "c.jsonl").write_bytes("\n".join(thirds[2]).encode() + b'\n{"text": "\xff\xfe"}\n')
    (folder / "d.jsonl").write_bytes(b"")
    (folder / "z.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 9999)[:-9])  # the last shard breaks off
    (folder.parent / "items.jsonl").write_text("".join(json.dumps({"question": item}) + "\n" for item in ITEMS))
    return {
        "language": 1, "quality": 1, "exact": 10, "near": 10, "evaluation": 4, "not_text": 1, "broken_json": 1, "empty": 1,
        "broken_utf8": 1, "empty_file": 1, "damaged_file": 1,
    }  # fmt: skip


def command(folder: Path, *more: str) -> list[str]:
    """`recipes/data.py` on the corpus in `folder`, to be run in the folder above it."""
    return [
        sys.executable, str(REPOSITORY / "recipes" / "data.py"), "+model=tiny_pl", f"corpus.sources=[{folder.name}]",
        "corpus.decontamination.items=[items.jsonl]", "corpus.heldout_share=0.05", "corpus.part_mib=1", *more,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    job = ("RANK", "WORLD_SIZE", "SLURM_", "LOCAL_")
    return {key: value for key, value in os.environ.items() if not key.startswith(job)} | {"OMP_NUM_THREADS": "1"}


def clean(folder: Path, *more: str) -> subprocess.CompletedProcess:
    return warm_start.light(command(folder, *more), cwd=folder.parent, env=environment(), timeout=900)


def written(run: Path) -> dict[str, bytes]:
    """Every file of training and held-out text and tokens, by its name."""
    files = [file for side in ("train", "heldout", "tokens") for file in sorted((run / side).rglob("*")) if file.is_file()]
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}
