"""Whether a job's nodes are fit and alike, from what `recipes/doctor.py doctor.json=true` said on each; imports no torch.

    python -m nemo_plugins.platforms.nodes FOLDER NODES CODE

FOLDER has `node-<n>.json` (facts) and `node-<n>.txt` (what went wrong) of each node, CODE is the exit code of them all. Ends
with 1 and the names of sick nodes on stderr where one is unfit, silent or another than most.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ALIKE = ("python", "lock", "versions", "torch", "driver")  # what all nodes of a job must have the same


def sick(facts: list[dict[str, Any]], errors: list[str], nodes: int) -> list[str]:
    """A line for each thing that is wrong, with the node's name; none where all is well.

    Args:
        facts: of each node that said anything.
        errors: what the others printed instead.
        nodes: how many there are.
    """
    faults = [f"{one['node']}: {lack}" for one in facts for lack in one["lacks"]]
    for key in ALIKE:
        values = Counter(str(one.get(key)) for one in facts)
        usual, _ = values.most_common(1)[0] if values else ("", 0)
        faults += [
            f"{one['node']}: {key} is {one.get(key)}, on {values[usual]} other node(s) {usual}"
            for one in facts
            if str(one.get(key)) != usual
        ]
    if len(facts) < nodes:
        heard = ", ".join(sorted(one["node"] for one in facts)) or "none"
        faults += [f"{nodes - len(facts)} of {nodes} node(s) did not answer (those that did: {heard})", *errors]
    return faults


def main(folder: Path, nodes: int, code: int) -> int:
    facts, errors = [], []
    for number in range(nodes):
        said = folder / f"node-{number}.json"
        lines = [line for line in said.read_text().splitlines() if line.startswith("{")] if said.is_file() else []
        if lines:
            facts.append(json.loads(lines[-1]))
        elif (error := said.with_suffix(".txt")).is_file():
            errors += error.read_text().splitlines()[-5:]
    faults = sick(facts, errors, nodes)
    if code and not faults:
        faults.append(f"looking at the nodes ended with exit code {code}: {folder}/node-*.txt")
    if faults:
        print("these nodes are unfit or unlike:", *faults, sep="\n  ", file=sys.stderr)
        return 1
    gpus = sum(len(one["gpus"]) for one in facts)
    names = ", ".join(sorted(one["node"] for one in facts))
    free = min(one["root"]["free_bytes"] for one in facts)
    print(f"{names}: fit and alike, {gpus} GPUs, {free / 2**30:.0f} GiB free in {facts[0]['root']['path']}")
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.flush()
    os._exit(code)
