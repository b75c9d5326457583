"""Dialogues to packed tokens by `recipes/data.py corpus.task=chats`, and what is left of it when fine-tuning starts.

    python benchmarks/chats.py [--dialogues 1000000] [--processes 2] [--root DIR]

The dialogues are made: 5 to 25 words of the bundled text asked, 10 to 60 answered. Seconds are of the clock, the start of
processes included. The last line is the same call that `sft` makes, in a process of its own, with the folder there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
SEED, LENGTH = 1234, 256


def started(root: Path) -> None:
    """What `sft` does with the set, in a process of its own; prints seconds, windows and the share of places filled."""
    from transformers import AutoTokenizer

    from nemo_plugins.data.chat import sets
    from nemo_plugins.data.chat.dataset import DialogueWindows
    from nemo_plugins.data.chat.template import ChatTemplate

    template = ChatTemplate(AutoTokenizer.from_pretrained(root / "chats" / "chats" / "tokenizer"))
    start, asked = time.monotonic(), {"key": "sft.data", "policy": "drop", "seq_length": LENGTH, "learn": "every"}
    samples = sets.dialogues([root / "chats.jsonl"], template, root / ".chats", **asked)
    windows = DialogueWindows(samples, LENGTH, template.pad, SEED)
    windows[len(windows) - 1]
    print(time.monotonic() - start, len(windows), windows.fill)


def make(path: Path, count: int) -> int:
    """Write the dialogues. Returns their bytes."""
    with gzip.open(REPOSITORY / "assets" / "polish_text" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        words = sorted({word for line in lines for word in json.loads(line)["text"].split()})
    rng = random.Random(1)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            turns = (("user", rng.randint(5, 25)), ("assistant", rng.randint(10, 60)))
            row = [{"role": role, "content": " ".join(rng.choices(words, k=length)) + "."} for role, length in turns]
            file.write(json.dumps({"messages": row}, ensure_ascii=False) + "\n")
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dialogues", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--started", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.started:
        return started(given.started)
    root = Path(tempfile.mkdtemp(dir=given.root))
    try:
        size = make(root / "chats.jsonl", given.dialogues)
        heldout = REPOSITORY / "assets" / "chat_samples" / "sft_heldout.jsonl.gz"
        command = [
            sys.executable, str(REPOSITORY / "recipes" / "data.py"), "+model=tiny_pl", "corpus.task=chats", "run.name=chats",
            f"run.root={root}", f"run.seed={SEED}", f"corpus.workers={given.processes}", "corpus.part_mib=16", "dpo.data=[]",
            f"sft.data=[{root / 'chats.jsonl'}]", f"sft.heldout=[{heldout}]", f"sft.seq_length={LENGTH}",
        ]  # fmt: skip
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        summary = json.loads((root / "chats" / "chats" / "summary.json").read_text())
        tokens, made = summary["metrics"]["sft_data_tokens"], summary["metrics"]["sft_data_samples"]
        speed = f"{given.dialogues / seconds:,.0f} dialogues/s, {tokens / seconds:,.0f} tokens/s"
        print(f"{given.dialogues:,} dialogues, {size / 1e6:,.0f} MB, {tokens:,} tokens; {made:,} fit {LENGTH} places")
        print(
            f"{given.processes} processes: {seconds:,.0f} s, {speed}, {summary['peak_memory_bytes'] / 2**20:,.0f} MiB at most"
        )
        command = [sys.executable, __file__, "--started", str(root)]
        took, windows, fill = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        print(f"sft's start with the folder there: {float(took):.2f} s, {int(windows):,} windows, {float(fill):.1%} filled")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
