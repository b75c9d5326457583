"""How often rewards are wrong on labelled Polish completions: ours, math-verify alone, and TRL's reward functions.

    python benchmarks/reward_errors.py [--sets held-out] [--show]

The completions are those of tests/alignment: completions.py (development: rules are written after them),
heldout_completions.py (no rule is). Those of more than LONGEST characters, which try bounds, are left out. A false negative
is a right completion that earns nothing, a false positive a wrong one that earns; shares with their 95 % interval. A peer
is called in a process of PEER_SECONDS of processor time, since some of the completions never end in the libraries alone;
what is over it earns nothing.

math-verify alone gets the whole completion, and for options letters as its strings; TRL's accuracy_reward the same, and
reasoning_accuracy_reward where the completion has thought.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from exercises import wilson

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "alignment")]

LONGEST = 5000
PEER_SECONDS = 5
PROMPT = "Ile to jest?"
Row = tuple[str, str, int, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print each completion that ours gets wrong")
    parser.add_argument("--sets", nargs="+", default=["development", "held-out"])
    given = parser.parse_args()
    import completions
    import heldout_completions

    from nemo_plugins.alignment import rewards

    logging.disable()
    print("| completions | reward | right, wrong | | false negatives | false positives |")
    print("|---|---|---:|---|---:|---:|")
    for title, tables in (("development", completions.ALL), ("held-out", heldout_completions.ALL)):
        for name in ("boxed_math", "multiple_choice") if title in given.sets else ():
            rows = [row if len(row) > 3 else (*row, PROMPT) for group in tables[name].values() for row in group]
            rows = [row for row in rows if len(row[1]) <= LONGEST]
            ours = rewards.get(name)
            peers = {
                "ours": lambda row, ours=ours: ours(row[3], row[1], row[0]),
                "math-verify": lambda row, name=name: isolated(math_verify_alone, name, row),
                "TRL": lambda row, name=name: isolated(trl, name, row),
            }
            right = [row for row in rows if row[2]]
            wrong = [row for row in rows if not row[2]]
            for who, reward in peers.items():
                lost = [row for row in right if reward(row) < 1]
                won = [row for row in wrong if reward(row) > 0]
                cells = f"{share(len(lost), len(right))} | {share(len(won), len(wrong))}"
                first = f"{title} | `{name}` | {len(right)}, {len(wrong)}" if who == "ours" else " | | "
                print(f"| {first} | {who} | {cells} |", flush=True)
                for row in (*lost, *won) if given.show and who == "ours" else ():
                    print(f"    wanted {row[2]}: {row[0]!r}, {row[1]!r}")
    return 0


def math_verify_alone(name: str, row: Row) -> float:
    from math_verify import StringExtractionConfig, parse, verify

    reference, completion = row[:2]
    if name == "multiple_choice":
        letters = [StringExtractionConfig(strings=tuple("ABCDEFGH"))]
        return float(verify(parse(reference, letters), parse(completion, letters)))
    return float(verify(parse(f"${reference}$"), parse(completion)))


def trl(name: str, row: Row) -> float:
    from trl.rewards import accuracy_reward, reasoning_accuracy_reward

    reward = reasoning_accuracy_reward if "think>" in row[1] else accuracy_reward
    return reward([[{"role": "assistant", "content": row[1]}]], [f"${row[0]}$"])[0] or 0.0


def isolated(reward: Callable[[str, Row], float], name: str, row: Row) -> float:
    """What a peer's reward gives, from a process that the kernel ends after PEER_SECONDS."""
    _warm()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (PEER_SECONDS, PEER_SECONDS))
        try:
            os._exit(1 if reward(name, row) > 0 else 0)
        except BaseException:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return float(os.WIFEXITED(status) and os.WEXITSTATUS(status))


@cache
def _warm() -> None:
    """Imports and expressions that every child needs, once."""
    for name, reference in (("boxed_math", "1"), ("multiple_choice", "A")):
        for reward in (math_verify_alone, trl):
            reward(name, (reference, rf"<think></think>\boxed{{{reference}}}", 1, PROMPT))
            reward(name, (reference, rf"\boxed{{{reference}}}", 1, PROMPT))


def share(count: int, total: int) -> str:
    low, high = wilson(count, total)
    return f"{count / total:.1%} ({max(0.0, low):.1%} to {high:.1%})"


if __name__ == "__main__":
    sys.exit(main())
