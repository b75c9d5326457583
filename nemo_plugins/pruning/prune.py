"""Prune a teacher through NeMo's `llm.prune`, and say what was kept and what it cost.

What NeMo lacks: `llm.prune` tells neither which layers and channels it kept nor the loss before and after. Both are read here
at the one place where it calls ModelOpt; the pruning itself is NeMo's, unchanged.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Criterion, Recipe
from nemo_plugins.data import text
from nemo_plugins.models import nemo
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.reporting import plots
from nemo_plugins.training.heldout import HeldoutLoss


class Watch:
    """What is seen while `llm.prune` runs: losses before and after, scores by name, layers from 1."""

    def __init__(self) -> None:
        self.loss_before = self.loss_after = float("nan")
        self.activations: list[dict[str, torch.Tensor]] = []
        self.layer_scores: dict[int, float] = {}


@contextmanager
def watched(heldout, criterion: Criterion, seed: int, log: Path):
    """Within it, `llm.prune` measures the held-out loss before and after and leaves its scores in the yielded `Watch`.

    Args:
        heldout: data module whose validation set is scored.
        log: folder for NeMo's log, which `llm.prune` would write to the current directory.
        criterion: `random` puts random scores in place of the measured ones, the baseline to beat.
    """
    from modelopt.torch.nas.plugins.megatron import _DynamicMCoreLanguageModel as Dynamic
    from nemo.collections.llm import api
    from nemo.lightning.callback_group import CallbackGroup

    CallbackGroup.get_instance()._callbacks.clear()  # NeMo's telemetry takes a second validation in a process for an error
    watch, prune, scores = Watch(), api.prune_language_model, Dynamic.get_activations_and_layer_scores
    logger = api.NeMoLogger

    def loss(model, trainer) -> float:
        trainer.limit_val_batches = heldout.heldout_batches
        trainer.callbacks.append(measured := HeldoutLoss())
        api.validate(model, data=heldout, trainer=trainer, tokenizer="model")
        trainer.callbacks.remove(measured)
        return measured.mean()

    def prune_watched(model, pruning_config, data, trainer):
        calibration_batches = trainer.limit_val_batches
        watch.loss_before = loss(model, trainer)
        trainer.limit_val_batches = calibration_batches
        prune(model, pruning_config, data, trainer)
        watch.loss_after = loss(model, trainer)
        return model

    def scores_watched(model):
        if criterion is Criterion.random:
            model.set_activations_and_layer_scores(*randomised(*scores(model), seed))
        watch.activations, watch.layer_scores = scores(model)
        return watch.activations, watch.layer_scores

    api.prune_language_model, Dynamic.get_activations_and_layer_scores = prune_watched, scores_watched
    api.NeMoLogger = partial(logger, explicit_log_dir=str(log), update_logger_directory=False)
    try:
        yield watch
    finally:
        api.prune_language_model, Dynamic.get_activations_and_layer_scores = prune, scores
        api.NeMoLogger = logger


def randomised(activations, layer_scores, seed: int):
    """Random scores of the same names and shapes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(values):
        if isinstance(values, dict):  # hidden channels: one score vector for each norm
            return {name: draw(inner) for name, inner in values.items()}
        return torch.rand(values.shape, generator=generator).to(values)

    drawn = [{name: draw(values) for name, values in part.items()} for part in activations]
    return drawn, {layer: float(torch.rand((), generator=generator)) + 1e-3 for layer in sorted(layer_scores)}


def kept_layers(watch: Watch, architecture: Architecture, student: Architecture, drop_layers: list[int] | None) -> list[int]:
    """Layers of the teacher that the student keeps, from 0, in their order: those with the highest scores."""
    if drop_layers:
        return [layer for layer in range(architecture.num_layers) if layer + 1 not in drop_layers]
    ranked = sorted(watch.layer_scores.items(), key=lambda item: item[1], reverse=True)
    return sorted(layer - 1 for layer, _ in ranked[: student.num_layers])


def save_scores(watch: Watch, path: Path) -> None:
    """Scores as safetensors: `layers` (Block Influence summed over micro-batches), one vector a module as ModelOpt has them.

    FFN vectors are the squared L2 over samples of the mean |activation| over the sequence.
    """
    tensors = {"layers": torch.tensor([score for _, score in sorted(watch.layer_scores.items())])}
    for rank, part in enumerate(watch.activations):
        for name, values in part.items():
            if isinstance(values, torch.Tensor):
                tensors[f"pp{rank}.{name}"] = values.detach().float().cpu().contiguous()
    save_file(tensors, path)


def run(cfg: Recipe, run: runs.Run) -> None:
    """Prune the teacher of the run to the sizes asked for and write checkpoint, scores and summary."""
    platforms.prepare()
    from nemo.collections import llm
    from nemo.collections.llm.modelopt import PruningConfig

    teacher_path = run.input(runs.teacher(cfg))
    teacher, sizes = runs.architecture(cfg.model), runs.student_sizes(cfg)
    student = teacher.with_sizes(sizes)
    drop_layers = list(cfg.prune.drop_layers or [])
    tokenizer = nemo.checkpoint_tokenizer(teacher_path)
    calibration = cfg.prune.calibration
    make_data = partial(
        text.data_module,
        cfg.data,
        list(calibration.data),
        "prune.calibration.data",
        tokenizer,
        text.cache_folder(cfg.run.root),
        seed=cfg.run.seed,
        seq_length=calibration.seq_length,
        micro_batch_size=calibration.micro_batch_size,
        global_batch_size=calibration.micro_batch_size,  # `llm.prune` wants them equal
    )
    (data, counts), (heldout, _) = make_data(), make_data()  # `llm.prune` makes its own module's held-out set the train set
    targets = {f"target_{name}": size for name, size in sizes.items() if size is not None}
    unfinished = run.folder / "checkpoint.partial"
    if run.is_writer:
        shutil.rmtree(unfinished, ignore_errors=True)
    with watched(heldout, cfg.prune.criterion, cfg.run.seed, run.folder / "nemo") as watch:
        llm.prune(
            nemo_checkpoint=str(teacher_path),
            save_path=str(unfinished),
            pruning_config=PruningConfig(drop_layers=drop_layers) if drop_layers else PruningConfig(**targets),
            data=data,
            devices=cfg.platform.devices,
            num_nodes=cfg.platform.nodes,
            pp_size=cfg.platform.pipeline_parallel,
            num_train_samples=calibration.samples,
        )
    if not run.is_writer:
        return
    kept = kept_layers(watch, teacher, student, drop_layers)
    runs.put_in_place(unfinished, run.folder / "checkpoint")
    outputs = {"checkpoint": run.folder / "checkpoint"}
    # ModelOpt sums over the micro-batches that it saw
    batches = calibration.samples // calibration.micro_batch_size if cfg.prune.criterion is Criterion.importance else 1
    scores = [score / batches for _, score in sorted(watch.layer_scores.items())]
    if scores:
        save_scores(watch, run.folder / "scores.safetensors")
        outputs["scores"] = run.folder / "scores.safetensors"
        outputs["plot"] = plots.layers(run.folder / "plots" / "layers.png", scores, kept, cfg.prune.criterion.value)
    run.finish(
        outputs=outputs,
        next=runs.command(cfg, "distill"),
        metrics={"loss_before": watch.loss_before, "loss_after": watch.loss_after},
        teacher={"parameters": teacher.parameters("all"), **asdict(teacher)},
        student={"parameters": student.parameters("all"), **asdict(student)},
        kept_layers=kept,
        layer_scores=scores,
        criterion=cfg.prune.criterion.value,
        calibration={"samples": 0 if drop_layers else calibration.samples, "seq_length": calibration.seq_length, **counts},
    )
