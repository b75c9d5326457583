"""A stage that trains, as an object: a subclass says on what, from which weights and by which loss; the loop is one for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from nemo import lightning as nl
from nemo.collections import llm
from nemo.lightning import io
from nemo.lightning.ckpt_utils import ckpt_to_context_subdir

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe, TrainConfig
from nemo_plugins.data import text
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import work
from nemo_plugins.reporting import training_report
from nemo_plugins.reporting.page import Cell, Section
from nemo_plugins.training import checkpoints, loggers, trainer
from nemo_plugins.training.bad_steps import Guard
from nemo_plugins.training.heldout import HeldoutLoss
from nemo_plugins.training.metric_sums import MetricSums
from nemo_plugins.training.progress import Metrics
from nemo_plugins.training.stop_requests import StopRequests


class Training:
    """A stage's training: `fit` calls the hooks in the order in which they stand here, a subclass overrides what differs.

    Attributes:
        key: name of the stage's section of the configuration; `train` is that section.
        model: sizes of the model that is trained. A subclass sets it, and `tokenizer`, NeMo's `AutoTokenizer` of the model.
        source: the checkpoint that training starts from; None: random weights.
        adapters: NeMo's PEFT where it trains adapters; None: all weights are trained.
        output: name in the run folder of the weights that are left: `checkpoint`, where they are a whole model's.
        tokens_per_step: fewer than a batch has places, where sequences are not always full.
        watch: sums what is logged beside the loss; None: nothing is.
        validate_first: whether the held-out loss before step 1 is measured, as step 0.
        paper: first and last loss to draw beside the run's; None: not comparable.
        counts: of the data, by name.
    """

    key: str
    model: Architecture
    tokenizer: Any
    source: Path | None = None
    adapters: Any = None
    output = "checkpoint"
    watch: MetricSums | None = None
    validate_first = False
    paper: tuple[float, float] | None = None

    def __init__(self, cfg: Recipe, run: runs.Run):
        self.cfg = cfg
        self.run = run
        self.train: TrainConfig = getattr(cfg, self.key)
        self.platform = platforms.prepare()
        self.tokens_per_step: float = self.train.global_batch_size * self.train.seq_length
        self.counts: dict[str, int] = {}

    def data(self) -> pl.LightningDataModule:
        """The data module; sets `counts`. By default the texts of `train.data`."""
        for path in text.sources(self.cfg.data, list(self.train.data)):
            self.run.input(path)
        module, self.counts = text.data_module(
            self.cfg.data,
            list(self.train.data),
            f"{self.key}.data",
            self.tokenizer,
            text.cache_folder(self.cfg.run.root),
            text.BatchShape(self.train.seq_length, self.train.micro_batch_size, self.train.global_batch_size),
            seed=self.cfg.run.seed,
        )
        return module

    def flops_per_token(self) -> float:
        """Of a training step, for the MFU."""
        return work.flops_per_token(self.train, self.model)

    def callbacks(self, common: list) -> list:
        """All callbacks in their order; `common` are those of every training, the one that saves checkpoints last."""
        return common

    def start(self, *, resume: nl.AutoResume, **parts) -> None:
        """Call NeMo's training. `parts` are its `data`, `trainer`, `optim` and `log`."""
        module = self.module()
        trainer.recompute(module.config, self.cfg.platform.recompute)
        if self.source and resume.restore_config is None:
            resume.restore_config = nl.RestoreConfig(path=str(self.source))
        llm.train(module, tokenizer=self.tokenizer, resume=resume, model_transform=self.adapters, **parts)

    def module(self):
        """NeMo's module that is trained, with its loss: by default that of `source`, by cross-entropy."""
        return io.load_context(ckpt_to_context_subdir(str(self.source)), subpath="model")

    def facts(self) -> dict[str, Cell]:
        """What is trained, for the report's table."""
        return {}

    def sections(self, plots: Path, lines: Sequence[Mapping[str, float | None]]) -> list[Section]:
        """Further sections of the report, from the folder of plots and the lines of `metrics.jsonl`."""
        return []

    def outputs(self) -> dict[str, Path]:
        """What the stage leaves beside weights and report. Called by all processes when training and report are done."""
        return {}

    def next(self) -> str:
        """The command to go on with."""
        return runs.export_command(self.cfg, self.run.folder)

    def metrics(
        self, first: Mapping[str, float], last: Mapping[str, float], validated: Mapping[int, float]
    ) -> dict[str, float | None]:
        """The stage's own part of the summary's metrics.

        Args:
            first, last: metrics of step 1 and of the last step.
            validated: step → held-out loss.
        """
        return {}

    def summary(self) -> dict[str, Any]:
        """Further blocks of the summary."""
        return {"data": self.counts}

    def fit(self) -> None:
        """Train for `train.max_steps` steps; leave the weights in `<run>/<output>`, a report and the summary.

        Raises:
            runs.Stopped: it was asked to stop and has written a checkpoint.
            runs.Failed: a step was not fit for the weights, and `bad_step` is `stop`.
        """
        cfg, run, train, here = self.cfg, self.run, self.train, self.platform
        pl.seed_everything(cfg.run.seed, verbose=False)
        steps = run.folder / "steps"
        if run.is_writer:
            checkpoints.clear(steps)
        resumed = checkpoints.newest(steps)
        run.truncate_metrics(resumed[0] if resumed else -1)

        data = self.data()
        validate_first = self.validate_first and not resumed
        sharded = trainer.sharded_optimizer(cfg.platform, here, resumed[1] if resumed else None)
        logged_to = loggers.build(cfg, run.folder, self.key)
        nemo_trainer = trainer.build(cfg.platform, here, train, data.heldout_batches, logged_to, validate_first, sharded)
        heldout = HeldoutLoss(data.heldout_sets, self.watch)
        guard = Guard(train.bad_step, train.spike, train.global_batch_size, self.key)
        metrics = Metrics(self, heldout, guard)
        final = run.folder / self.output
        with StopRequests(train.stop_minutes) as stops:
            saving = checkpoints.StepCheckpoint(train, steps, final, stops, metrics.validated)
            nemo_trainer.callbacks.extend(self.callbacks([heldout, guard, metrics, saving]))
            self.start(
                data=data,
                trainer=nemo_trainer,
                optim=trainer.optimizer(cfg.platform, here, train, sharded),
                resume=trainer.resume(resumed[1] if resumed else None),
                log=nl.NeMoLogger(explicit_log_dir=str(run.folder / "nemo"), update_logger_directory=False),
            )
        outputs = {self.output: final}
        if run.is_writer:
            events = [*([f"resumed at step {resumed[0]:,}"] if resumed else []), *guard.events]
            outputs |= self.report(events)
        outputs |= self.outputs()
        lines = logged(run, metrics.last)
        speed = whole_speed(lines, self.tokens_per_step)
        run.finish(
            outputs=outputs,
            next=self.next(),
            metrics={
                **self.metrics(lines[0], lines[-1], metrics.validated),
                "val_loss": metrics.validated[max(metrics.validated)],  # of the weights that were written
                "best_step": checkpoints.best(steps, metrics.validated),
                "tokens_per_second": speed["tokens_per_second"],
                "mfu": speed.get("mfu"),
            },
            **self.summary(),
        )

    def report(self, events: Sequence[str]) -> dict[str, Path]:
        """Write `report.html` and its plots."""
        facts = self.facts()
        known = {**schedule(self.train, self.tokens_per_step), **_labelled(self.counts)}
        known["precision"] = trainer.precision(self.cfg.platform, self.platform).value
        title = f"{self.cfg.run.name}: {self.key}"
        trained = training_report.Trained(
            title, self.run.read_metrics(), {**facts, **known, **facts}, self.paper, events, self.sections
        )
        return training_report.write(self.run.folder, trained)


def whole_speed(lines: Sequence[Mapping[str, float]], tokens_per_step: float) -> dict[str, float]:
    """Tokens a second of all steps together, validations and rollouts left out, and the MFU at that rate."""
    last = lines[-1]
    if not last.get("train_seconds") or not last.get("step"):  # a process that logs nothing knows its last step alone
        return {key: last[key] for key in ("tokens_per_second", "mfu") if key in last}
    rate = tokens_per_step * last["step"] / last["train_seconds"]
    share = {"mfu": last["mfu"] * rate / last["tokens_per_second"]} if last.get("mfu") else {}
    return {"tokens_per_second": rate, **share}


def logged(run: runs.Run, last: dict[str, float]) -> list[dict[str, float]]:
    """Metrics of the steps: the writer's are whole, the others know the last step, and read where a resumed run had none."""
    whole = run.is_writer or not last
    return [line for line in run.read_metrics() if "loss" in line] if whole else [last]


def schedule(train: TrainConfig, tokens_per_step: float) -> dict[str, int | str]:
    """A training's length and learning rate, for its report."""
    rate = f"{train.lr:g}, constant" if train.lr == train.min_lr else f"{train.lr:g} to {train.min_lr:g}, cosine"
    return {
        "steps": train.max_steps,
        "tokens": round(train.max_steps * tokens_per_step),
        "batch": f"{train.global_batch_size:,} sequences of {train.seq_length:,} tokens",
        "learning rate": f"{rate}, {train.warmup_steps:,} steps of warm-up",
    }


def _labelled(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts of the data under the names that people read."""
    labels = {"train_tokens": "tokens of training text", "heldout_tokens_scored": "tokens of held-out text"}
    if not labels.keys() <= counts.keys():
        return {name.replace("_", " "): value for name, value in counts.items()}
    return {label: counts[name] for name, label in labels.items()}
