"""Speed of the quality classifier, features and trees together, on one core.

    python benchmarks/quality.py [--repeats 5] [--model assets/quality_pl]

The text is the bundled one as it is (1,460 bytes a document), cut into pieces of 300 characters, and eight documents in one.
Counted are seconds of a processor, so that other jobs of the machine take less of the result: megabytes of UTF-8 in them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nemo_plugins.configs import language
from nemo_plugins.data.corpus.steps import BATCH
from nemo_plugins.data.quality.classifier import Classifier

REPOSITORY = Path(__file__).resolve().parents[1]
PIECE, JOINED = 300, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "assets" / "quality_pl")
    given = parser.parse_args()
    classifier = Classifier.load(given.model, language.load("pl"))
    with gzip.open(REPOSITORY / "assets" / "polish_text" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    together = "\n".join(texts)
    sets = {
        "documents as they are": texts,
        f"pieces of {PIECE} characters": [together[at : at + PIECE] for at in range(0, len(together), PIECE)],
        f"{JOINED} documents in one": ["\n".join(texts[at : at + JOINED]) for at in range(0, len(texts), JOINED)],
    }
    for name, documents in sets.items():
        size = sum(len(text.encode()) for text in documents)
        features, applied = [], []
        for _ in range(given.repeats):
            start = time.process_time()
            for at in range(0, len(documents), BATCH):
                classifier.extractor.matrix(documents[at : at + BATCH])
            middle = time.process_time()
            for at in range(0, len(documents), BATCH):
                classifier.probabilities(documents[at : at + BATCH])
            features.append(size / (middle - start) / 1e6)
            applied.append(size / (time.process_time() - middle) / 1e6)
        each = size / len(documents)
        print(
            f"{name:<26} {len(documents):>6,} of {each:>7,.0f} bytes: features {statistics.median(features):.2f} "
            f"MB/s, with the trees {statistics.median(applied):.2f} MB/s a core ({min(applied):.2f} to {max(applied):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
