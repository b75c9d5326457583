"""Make the probes of this folder again, without what the training text already says.

python assets/evaluation/make.py

An item goes where a training document (assets/polish_text, assets/chat_samples) holds its question together with its answer
(`nemo_plugins.data.corpus.contamination`: 13 words in a row, or all of what is shorter).
"""

import gzip
import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from items import MAKERS, OPTIONS, Item  # noqa: E402

from nemo_plugins.configs.store import REPOSITORY  # noqa: E402
from nemo_plugins.data.corpus.contamination import Contamination  # noqa: E402

NGRAM = 13
TRAINED = ("polish_text/train", "chat_samples/sft_train", "chat_samples/preferences_train", "chat_samples/grpo_train",
           "chat_samples/forms_train")  # fmt: skip


def training_texts() -> list[str]:
    """The documents and dialogues that the bundled models learn from; a dialogue is its turns in a row."""
    found = []
    for name in TRAINED:
        path = REPOSITORY / "assets" / f"{name}.jsonl.gz"
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            row = json.loads(line)
            turns = [turn["content"] for turn in row.get("messages", ())]
            found.append(" ".join([row["text"]] if "text" in row else [*turns, row.get("chosen", "")]))
    return found


def clean(items: list[Item], texts: list[str]) -> tuple[list[Item], int, int]:
    """The items that no text gives away; how many it did, and how many are too short to look for."""
    probes = {f"{one['question']} {one['target']}": number for number, one in enumerate(items)}
    looking, bad = Contamination(probes, NGRAM), set()
    for text in texts:
        while (hit := looking.found(text)) is not None and probes[hit] not in bad:
            bad.add(probes[hit])
            rest = {one: number for one, number in probes.items() if number not in bad}
            looking = Contamination(rest, NGRAM)
    unchecked = {probes[text] for text in looking.unchecked}
    return [one for number, one in enumerate(items) if number not in bad], len(bad), len(unchecked)


def balanced(items: list[Item]) -> list[Item]:
    """As many items with the right option at each place, at most one apart, dropping from the end."""
    each = [sum(one["answer"] == place for one in items) for place in range(OPTIONS)]
    left, kept = [min(each) + 1] * OPTIONS, []
    for one in items:
        if left[one["answer"]]:
            left[one["answer"]] -= 1
            kept.append(one)
    return kept


def main() -> None:
    texts = training_texts()
    print("| probe | made | in the training text | too short to look for | kept |\n|---|---:|---:|---:|---:|")
    for name, make in MAKERS.items():
        made = make(random.Random(f"probes {name}"))
        kept, bad, unchecked = clean(made, texts)
        kept = balanced(kept)
        lines = "".join(json.dumps({"id": f"{name}-{n:03d}", **one}, ensure_ascii=False) + "\n" for n, one in enumerate(kept))
        (HERE / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        print(f"| {name} | {len(made)} | {bad} | {unchecked} | {len(kept)} |")


if __name__ == "__main__":
    main()
