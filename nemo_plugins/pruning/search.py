"""Rank candidate students of one teacher: one calibration, a held-out loss each.

What NeMo and ModelOpt 0.37 lack: any search for the student; each candidate there is a calibration and a checkpoint of its own.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import candidates
from nemo_plugins.planning.candidates import Candidate
from nemo_plugins.pruning import loaded_teacher, score_file, shortlist, subnet
from nemo_plugins.pruning.loaded_teacher import LoadedTeacher
from nemo_plugins.reporting import search_report
from nemo_plugins.reporting.search_report import Row
from nemo_plugins.runs import output
from nemo_plugins.runs.folder import write as write_whole

TEACHER = "teacher"
SEARCHES = ("search", shortlist.MEASURED, "search-part-*", "*/search")  # folders of a run that may hold losses
LOSSES = "losses.json"  # for the process that distils the best


class Results:
    """Losses of candidates, a file each, in this search's folder and in those of its parts and of its multirun's jobs.

    Args:
        root: the run's folder.
        folder: where new ones are written.
        identity: what the losses depend on beside the candidate; others are not read.
    """

    def __init__(self, root: Path, folder: Path, identity: dict[str, Any]):
        self.root, self.folder = root, folder / "candidates"
        self.identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def read(self) -> dict[str, dict[str, Any]]:
        """What is measured already, by name."""
        searches = [folder for pattern in SEARCHES for folder in self.root.glob(pattern)]
        files = [file for folder in searches for file in folder.glob("candidates/*.json")]
        lines = [json.loads(file.read_text()) for file in sorted(files) if file.is_file()]
        return {result["name"]: result for result in lines if result["identity"] == self.identity}

    def write(self, name: str, **result: Any) -> None:
        text = json.dumps({"name": name, "identity": self.identity, **result}, indent=1) + "\n"
        write_whole(self.folder / f"{name}.json", text)


def run(cfg: Recipe, run: runs.Run) -> None:
    """Measure what is not measured yet, rank, and write the report.

    Raises:
        SystemExit: 1 where a candidate failed; the others are done, and the same command tries it again.
    """
    platforms.prepare()
    teacher = run.input(runs.teacher(cfg))
    for path in loaded_teacher.inputs(cfg):
        run.input(path)
    loaded = LoadedTeacher(cfg, teacher, run.is_writer, "search")
    every = candidates.choose(cfg).candidates
    mine = candidates.mine(cfg, every)
    results = Results(runs.run_root(cfg), run.folder, identity(loaded))
    loaded.progress.now("loading the teacher")
    with loaded.progress, loaded_teacher.nemo_log(run.folder / "nemo"):
        failed = losses(loaded, mine, results)
    if not run.is_writer:
        return
    results_by_name = results.read()
    rows = [
        row(candidate, loaded.teacher, results_by_name, failed)
        for candidate in every
        if candidate.name in results_by_name or candidate in mine
    ]
    finish(cfg, run, loaded, rows, results_by_name[TEACHER]["loss"])


def identity(loaded: LoadedTeacher) -> dict[str, Any]:
    """What a candidate's loss depends on, beside its sizes."""
    cfg = loaded.cfg
    scores = score_file.read_header(runs.resolve(cfg.prune.scores)) if cfg.prune.scores else loaded.measured()
    return {
        "scores": asdict(scores),
        "teacher": loaded.measured().teacher,
        "precision": loaded.precision.value,
        "criterion": cfg.prune.criterion.value,
        "aggregation": [cfg.prune.aggregation.sequence.value, cfg.prune.aggregation.samples.value],
        "seed": cfg.run.seed,
        "heldout": [runs.fingerprint(runs.resolve(path)) for path in cfg.data.heldout],
        "heldout_samples": cfg.data.heldout_samples,
        "loss_samples": cfg.prune.calibration.loss_samples,
    }


def losses(loaded: LoadedTeacher, mine: list[Candidate], results: Results) -> dict[str, str]:
    """Measure the held-out loss of each candidate that has none yet. Returns what failed, by name, and why."""
    known = results.read()
    todo = [candidate for candidate in mine if candidate.name not in known]
    if not todo and TEACHER in known:
        return {}
    loaded_teacher.load(loaded)
    if TEACHER not in known:
        before = loaded.heldout_loss("teacher")
        if loaded.is_writer:
            results.write(TEACHER, loss=before, parameters=loaded.teacher.parameters())
    chosen = {candidate.name: loaded.choose_layers(candidate.student) for candidate in todo}  # before anything is sorted
    changed = {key for candidate in todo for key in candidate.sizes(loaded.teacher)} & set(subnet.SIZES)
    if changed:
        loaded.rank_width()
    subnet.sort(loaded.dynamic, changed)

    def measure(candidate: Candidate) -> None:
        start = time.monotonic()
        with subnet.cut(loaded.dynamic, loaded.teacher, candidate.student, chosen[candidate.name]):
            loss = loaded.heldout_loss(candidate.name)
        if loaded.is_writer:
            sizes, seconds = candidate.sizes(loaded.teacher), round(time.monotonic() - start, 3)
            results.write(candidate.name, loss=loss, sizes=sizes, kept_layers=chosen[candidate.name], seconds=seconds)
        runs.say(f"{candidate.name}: held-out loss {loss:.4f}")

    return one_by_one(todo, measure)


def one_by_one(todo: list[Candidate], measure: Callable[[Candidate], None]) -> dict[str, str]:
    """Call `measure` for each; what fails is told and does not end the others. Returns the failures by name."""
    failed, start = {}, time.monotonic()
    for number, candidate in enumerate(todo):
        if number:
            left = (time.monotonic() - start) / number * (len(todo) - number)
            runs.say(f"[{number + 1}/{len(todo)}] about {output.duration(left)} left")
        try:
            measure(candidate)
        except Exception as error:
            if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
                raise  # the other ranks wait for this one in a collective
            traceback.print_exc()
            failed[candidate.name] = f"{type(error).__name__}: {error}"
            output.error(f"{candidate.name} failed: {failed[candidate.name].splitlines()[0]}")
    return failed


def row(candidate: Candidate, teacher: Architecture, results_by_name: dict[str, dict], failed: dict[str, str]) -> Row:
    result = results_by_name.get(candidate.name)
    return Row(
        name=candidate.name,
        sizes=candidate.sizes(teacher),
        parameters=candidate.student.parameters(),
        parameters_paper=candidate.student.parameters("paper"),
        loss=result["loss"] if result else None,
        distilled=None,
        error=None if result else failed.get(candidate.name, "not measured"),
    )


def finish(cfg: Recipe, run: runs.Run, loaded: LoadedTeacher, rows: list[Row], teacher: float) -> None:
    """Report, table and summary; the summary only where nothing failed, so that the same command tries again.

    Raises:
        SystemExit: 1 where a candidate failed.
    """
    lead = shortlist.lead(cfg)
    outputs = shortlist.report(cfg, run, rows, teacher, lead)
    write_whole(run.folder / LOSSES, json.dumps({"teacher": teacher, "rows": [asdict(one) for one in rows]}, indent=1) + "\n")
    if any(one.error for one in rows):
        output.error(f"{run.folder}: some candidates failed; the same command tries them again")
        raise SystemExit(runs.FAILED)
    best = search_report.ranked(rows)[: cfg.search.keep]
    commands = [word for one in best for word in shortlist.commands(cfg, one)]
    run.finish(
        outputs=outputs,
        next=commands[:2],
        metrics={"loss_teacher": teacher, "loss_best": best[0].loss},
        measured_here=loaded.measured_here,
        **shortlist.block(rows),
    )
