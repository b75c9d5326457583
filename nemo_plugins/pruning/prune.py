"""Prune a teacher through NeMo's `llm.prune`, and say what was kept and what it cost.

What NeMo lacks: `llm.prune` measures anew for every student, knows one criterion of depth, and tells neither which layers and
channels it kept nor the loss before and after. Here ModelOpt is handed scores that were measured once (`loaded_teacher.py`);
what it does with them is its own, unchanged.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Criterion, Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.pruning import compensate, explain, layer_removal, loaded_teacher, score_file, subnet
from nemo_plugins.pruning.loaded_teacher import LoadedTeacher, inputs
from nemo_plugins.reporting import prune_report

KEPT, DROPPED = 2.0, 1.0  # scores of layers once it is decided: ModelOpt keeps the highest and wants them positive


class PruneOutcome:
    """What is known once `llm.prune` is done.

    Attributes:
        loss_before, loss_after: held-out loss.
        kept: layers, from 0.
        unexplained: of each, what `compensate.fold` says; empty where nothing is compensated.
    """

    def __init__(self) -> None:
        self.loss_before = self.loss_after = float("nan")
        self.kept: list[int] = []
        self.unexplained: dict[int, tuple[float, float]] = {}


@contextmanager
def scored(loaded: LoadedTeacher, student: Architecture) -> Iterator[PruneOutcome]:
    """Within it, `llm.prune` measures the held-out loss before and after and takes its scores from `loaded`."""
    from modelopt.torch.prune.plugins.mcore_minitron import MCoreMinitronSearcher
    from nemo.collections.llm import api

    outcome, prune, setup = PruneOutcome(), api.prune_language_model, api.setup_trainer_and_restore_model_with_modelopt_spec
    load = MCoreMinitronSearcher.load_search_checkpoint
    cuts_ffn = student.ffn_hidden_size != loaded.teacher.ffn_hidden_size

    def setup_in_precision(*args, **kwargs):
        with loaded_teacher.in_precision(loaded.precision):
            return setup(*args, **kwargs)

    def prune_watched(model, pruning_config, data, trainer):
        loaded.attach(model, trainer)
        outcome.loss_before = loaded.heldout_loss("teacher")
        prune(model, pruning_config, data, trainer)
        outcome.loss_after = loaded.heldout_loss("student")
        return model

    def hand_over(searcher) -> bool:
        outcome.kept = loaded.choose_layers(student)
        if loaded.cfg.prune.calibration.loss_samples and loaded.cfg.prune.criterion in (Criterion.importance, Criterion.loss):
            loaded.need_removals(layer_removal.runs_of(1, loaded.teacher.num_layers))  # to see whether the criteria agree
        moments = loaded.ffn_moments(outcome.kept) if loaded.cfg.prune.compensate and cuts_ffn else {}
        if any(getattr(student, size) != getattr(loaded.teacher, size) for size in subnet.SIZES):
            loaded.rank_width()  # after all passes: ModelOpt's own hooks add to its scores
        if moments:
            outcome.unexplained = compensate.fold(loaded.dynamic, moments, student.ffn_hidden_size)
        for layer in loaded.dynamic.decoder.layers:
            layer._scores = KEPT if layer.layer_number - 1 in outcome.kept else DROPPED
        searcher.activations_per_rank, searcher.layer_scores = loaded.dynamic.get_activations_and_layer_scores()
        return True

    api.prune_language_model, api.setup_trainer_and_restore_model_with_modelopt_spec = prune_watched, setup_in_precision
    MCoreMinitronSearcher.load_search_checkpoint = hand_over
    try:
        yield outcome
    finally:
        api.prune_language_model, api.setup_trainer_and_restore_model_with_modelopt_spec = prune, setup
        MCoreMinitronSearcher.load_search_checkpoint = load


def run(cfg: Recipe, run: runs.Run) -> None:
    """Prune the teacher of the run to the sizes asked for and write checkpoint, scores, report and summary.

    Raises:
        runs.UserError: scores of another teacher, a calibration text shorter than one sequence.
    """
    platforms.prepare()
    from nemo.collections import llm
    from nemo.collections.llm.modelopt import PruningConfig

    from nemo_plugins.training import checkpoints

    checkpoint = run.input(runs.teacher(cfg))
    for path in inputs(cfg):
        run.input(path)
    loaded = LoadedTeacher(cfg, checkpoint, run.is_writer)
    sizes = runs.student_sizes(cfg)
    student = loaded.teacher.with_sizes(sizes)
    drop_layers = list(cfg.prune.drop_layers or [])
    targets = {f"target_{name}": size for name, size in sizes.items() if size is not None}
    if "target_num_attention_heads" in targets:  # ModelOpt wants both; the groups stay (planning/checks.py says why)
        targets["target_num_query_groups"] = student.num_query_groups
    unfinished = run.folder / "checkpoint.partial"
    if run.is_writer:
        shutil.rmtree(unfinished, ignore_errors=True)
    checkpoints.save_in_this_process()
    loaded.progress.now("loading the teacher")
    with loaded.progress, scored(loaded, student) as outcome, loaded_teacher.nemo_log(run.folder / "nemo"):
        llm.prune(
            nemo_checkpoint=str(checkpoint),
            save_path=str(unfinished),
            pruning_config=PruningConfig(drop_layers=drop_layers) if drop_layers else PruningConfig(**targets),
            data=loaded.data,
            devices=cfg.platform.devices,
            num_nodes=cfg.platform.nodes,
            pp_size=cfg.platform.pipeline_parallel,
            num_train_samples=cfg.prune.calibration.samples,
        )
    if not run.is_writer:
        return
    kept = [n for n in range(loaded.teacher.num_layers) if n + 1 not in drop_layers] if drop_layers else outcome.kept
    runs.put_in_place(unfinished, run.folder / "checkpoint")
    outputs = {"checkpoint": run.folder / "checkpoint"} | save_scores(loaded, run.folder)
    criterion = "dropped by hand" if drop_layers else cfg.prune.criterion.value
    losses = (outcome.loss_before, outcome.loss_after)
    explained = explain.pruning(loaded, student, kept, criterion, losses, outcome.unexplained)
    outputs |= prune_report.write(run.folder, explained)
    run.finish(
        outputs=outputs,
        next=runs.command(cfg, "distill", *runs.left_by("student.path", run.folder / "checkpoint", ("prune",))),
        metrics={"loss_before": outcome.loss_before, "loss_after": outcome.loss_after},
        teacher={"parameters": loaded.teacher.parameters("all"), **asdict(loaded.teacher)},
        student={"parameters": student.parameters("all"), **asdict(student)},
        kept_layers=kept,
        layer_scores=explained.layer_scores,
        criterion=explained.criterion,
        unexplained=outcome.unexplained,
        calibration={**explained.calibration, **loaded.counts, "measured_here": loaded.measured_here},
    )


def save_scores(loaded: LoadedTeacher, folder: Path) -> dict[str, Path]:
    """The scores that were used, so that the run folder is whole without the store."""
    if loaded.scores is None:
        return {}
    score_file.save(folder / "scores.safetensors", loaded.scores.tensors, loaded.scores.measured)
    return {"scores": folder / "scores.safetensors"}
