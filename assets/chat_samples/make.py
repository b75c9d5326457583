"""Make the samples of this folder again: dialogues, preference pairs and prompts with references, of simple Polish exercises.

python assets/chat_samples/make.py
"""

import gzip
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nemo_plugins.data.exercises import Exercise, exercises
from nemo_plugins.data.number_words import to_words

HERE = Path(__file__).resolve().parent
COUNTS = {"sft": (2400, 420), "preferences": (1200, 280), "grpo": (1200, 280), "forms": (2400, 0)}  # train, heldout
DRAWN = {"forms": 12, "grpo": 16}  # exercises for each prompt that is taken
SEEDS = {"sft": 1, "preferences": 2, "grpo": 3, "forms": 4}
# Exercises that a number answers, as many of each kind. Of sums a model of this size solves one in fifty: no signal.
CHECKED = {"forms": ("arithmetic", "words_to_number"), "grpo": ("words_to_number",)}


def turns(question: str, *answer: str) -> list[dict[str, str]]:
    users = [{"role": "user", "content": question}]
    return users + [{"role": "assistant", "content": text} for text in answer]


def wrong(exercise: Exercise, others: dict[str, list[str]], chance: random.Random) -> str:
    """A wrong answer that one could give: near the right number, or right for another question of its kind."""
    if exercise.answer.isdigit():
        value, off = int(exercise.answer), chance.choice((-10, -2, -1, 1, 2, 10))
        return str(value + off if value + off >= 0 else value - off)
    if exercise.kind in ("arithmetic_words", "number_to_words"):
        value = numbers()[exercise.answer]
        off = chance.choice((1, 2, 10) if value < 5 else (-2, -1, 1, 2))
        return to_words(value + off if value + off < len(numbers()) else value - 5 * off)
    while (found := chance.choice(others[exercise.kind])) == exercise.answer:
        pass
    return found


_NUMBERS: dict[str, int] = {}


def numbers() -> dict[str, int]:
    if not _NUMBERS:
        _NUMBERS.update({to_words(value): value for value in range(10_000)})
    return _NUMBERS


def rows(kind: str, split: str, count: int) -> list[dict]:
    found = exercises(split, count * DRAWN.get(kind, 1), SEEDS[kind])
    if kind == "sft":
        return [{"messages": turns(one.question, one.answer)} for one in found]
    if kind == "preferences":
        chance, others = random.Random(f"{kind} {split}"), {}
        for exercise in found:
            others.setdefault(exercise.kind, []).append(exercise.answer)
        return [
            {"messages": turns(one.question), "chosen": one.answer, "rejected": wrong(one, others, chance)} for one in found
        ]
    asked = [[prompt(one) for one in found if one.kind == checked] for checked in CHECKED[kind]]
    if len(asked) * min(map(len, asked)) < count:
        raise ValueError(f"{kind} {split}: expected {count} prompts of {', '.join(CHECKED[kind])}, got {[*map(len, asked)]}")
    both = [row for each in zip(*asked, strict=False) for row in each][:count]
    return [answered(row) for row in both] if kind == "forms" else both


def prompt(exercise: Exercise) -> dict:
    """A number is asked for in a box, where a reward finds it."""
    question = f"{exercise.question} Wynik podaj w \\boxed{{}}."
    return {"messages": turns(question), "kind": "boxed_math", "reference": exercise.answer}


def answered(row: dict) -> dict:
    """A prompt's question with its answer in the form that the reward reads, which a model never hits upon by itself."""
    said = f"\\boxed{{{row['reference']}}}"
    return {"messages": [*row["messages"], {"role": "assistant", "content": said}]}


def main() -> None:
    for kind, counts in COUNTS.items():
        for split, count in zip(("train", "heldout"), counts, strict=True):
            if not count:
                continue
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(kind, split, count))
            path = HERE / f"{kind}_{split}.jsonl.gz"
            path.write_bytes(gzip.compress(lines.encode(), mtime=0))
            print(f"{path.name}: {count} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
