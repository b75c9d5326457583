"""Look at this machine, say what it has and lacks, and fail where the platform that is asked for cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.planning import doctor_plan
from nemo_plugins.planning.doctor_plan import Finding
from nemo_plugins.platforms import machine
from nemo_plugins.runs import output
from nemo_plugins.runs.errors import UserError

PATIENCE = 600.0  # seconds for the imports: a shared file system that many nodes read at once is slow


def run(cfg: Recipe) -> None:
    """Print the tables, or with `doctor.json` one line of facts and verdict from every process.

    Raises:
        UserError: something is missing without which `platform` cannot be used; the message names each with its remedy.
    """
    facts = machine.facts(cfg.run.root)
    verdict = doctor_plan.judge(cfg, facts)
    if cfg.doctor.deep:
        verdict.findings.extend(deep(verdict.platform))
    lacks = verdict.lacks
    if cfg.doctor.json:
        said: dict[str, Any] = {
            "ok": not lacks,
            "platform": verdict.platform,
            "lacks": [f"{finding.what}: {finding.found}" for finding in lacks],
            "findings": [asdict(finding) for finding in verdict.findings],
            "stages": {name: here == "yes" for name, here, *_ in verdict.stages},
        }
        print(json.dumps(facts | said), file=output.stream(1), flush=True)  # of every process: each is on a node of its own
    else:
        output.tables(doctor_plan.tables(facts, verdict))
    if lacks:
        raise UserError(f"{facts['node']}: platform={verdict.platform} cannot be used here", *map(_line, lacks))


def deep(platform: str) -> list[Finding]:
    """Import what a stage imports and compute on every GPU, in a process of its own."""
    command = [sys.executable, "-m", "nemo_plugins.platforms.imports", platform]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return [Finding("imports", f"not done in {PATIENCE:.0f} s", "lacks", "a file system that is less busy, or is local")]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return [Finding("imports", last, "lacks", f"see it whole: {' '.join(command[1:])}")]
    return [Finding(**json.loads(line)) for line in lines]


def _line(finding: Finding) -> str:
    return f"{finding.what}: {finding.found}{' - ' + finding.remedy if finding.remedy else ''}"
