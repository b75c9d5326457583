"""Documents of the probes: files of assets/evaluation, wherever the tasks are run from. lm-eval loads this file by its path."""

import json
from pathlib import Path

import datasets

from nemo_plugins.data import lines

ASSETS = Path(__file__).resolve().parents[3] / "assets"
HELDOUT_BYTES = 60_000  # of the bundled held-out text: enough for three digits, seconds on a laptop


def _rows(path: Path) -> list[dict]:
    with lines.opened(path) as stream:
        return [json.loads(line.whole) for line in lines.read(stream)]


def _probe(name: str) -> dict[str, datasets.Dataset]:
    rows = _rows(ASSETS / "evaluation" / f"{name}.jsonl.gz")
    return {"test": datasets.Dataset.from_list(rows)}


def capitals(**_) -> dict[str, datasets.Dataset]:
    return _probe("capitals")


def synonyms(**_) -> dict[str, datasets.Dataset]:
    return _probe("synonyms")


def number_words(**_) -> dict[str, datasets.Dataset]:
    return _probe("number_words")


def arithmetic(**_) -> dict[str, datasets.Dataset]:
    return _probe("arithmetic")


def agreement(**_) -> dict[str, datasets.Dataset]:
    return _probe("agreement")


def heldout(heldout_text: list[str] | None = None, **_) -> dict[str, datasets.Dataset]:
    """Held-out documents whole: of the given JSONL files (`text`), else the start of the bundled ones.

    Args:
        heldout_text: `.jsonl` or `.jsonl.gz`; by `eval.heldout_text`, or of lm-eval's command line by `--metadata`.
    """
    if heldout_text:
        texts = [row["text"] for path in heldout_text for row in _rows(Path(path))]
    else:
        texts, taken = [], 0
        for row in _rows(ASSETS / "polish_text" / "heldout.jsonl.gz"):
            if taken >= HELDOUT_BYTES:
                break
            texts.append(row["text"])
            taken += len(row["text"].encode())
    return {"test": datasets.Dataset.from_list([{"text": text} for text in texts])}
