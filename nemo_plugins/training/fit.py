"""One training run from a configuration: data, trainer, callbacks, resume, final checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe, TrainConfig
from nemo_plugins.data import text
from nemo_plugins.planning import devices
from nemo_plugins.reporting import training_report
from nemo_plugins.training import checkpoints, loggers, trainer
from nemo_plugins.training.guard import Guard
from nemo_plugins.training.heldout import HeldoutLoss
from nemo_plugins.training.progress import Metrics, Watch
from nemo_plugins.training.stops import Stops


@dataclass
class Fit:
    """What came of it."""

    outputs: dict[str, Path]  # `checkpoint`: the weights alone, whole; `report` and `plots`
    first: dict[str, float]  # metrics of step 1
    last: dict[str, float]  # metrics of the last step
    validated: Mapping[int, float]  # step → held-out loss; the last is that of the weights that were written
    best: int | None  # step of the checkpoint with the lowest held-out loss
    data: dict[str, int]  # token counts
    speed: dict[str, float]  # of the whole run: `tokens_per_second`, and `mfu` where the devices' peak is known

    def metrics(self) -> dict[str, float | None]:
        """What every training's summary has."""
        return {
            "val_loss": self.validated[max(self.validated)],
            "best_step": self.best,
            "tokens_per_second": self.speed["tokens_per_second"],
            "mfu": self.speed.get("mfu"),
        }


def fit(
    cfg: Recipe,
    run: runs.Run,
    train: TrainConfig,
    key: str,
    tokenizer,
    start: Callable,
    flops_per_token: float,
    watch: Watch | None = None,
    wrap: Callable | None = None,
    facts: Mapping[str, str | int] | None = None,
    paper: tuple[float, float] | None = None,
    load: Callable | None = None,
    callbacks: Sequence = (),
    after: Sequence = (),
    tokens_per_step: float | None = None,
    pictures: Callable | None = None,
    leave: str = "checkpoint",
    validate_first: bool = False,
) -> Fit:
    """Train for `train.max_steps` steps and leave `<run>/checkpoint` with the weights.

    Args:
        train, key: the stage's section of the configuration and its name.
        tokenizer: NeMo's `AutoTokenizer` of the model.
        start: called with `data, trainer, optim, resume, log`; calls NeMo's `llm.train`, `llm.distill`, ….
        flops_per_token: of a step, for the MFU.
        watch: what looks at a distillation's logits.
        wrap: changes the data module before anything reads it.
        facts: what was trained, for the report; `paper` the first and last loss to hold its curve against.
        load: gives data module and counts where the stage does not train on text.
        callbacks: of the stage's own, before the common ones; `after`: those that come after them, checkpoints included.
        tokens_per_step: where a sequence is not always full.
        leave: another name than `checkpoint`, where the weights are not a whole model's.
        validate_first: whether the held-out loss before step 1 is measured, as step 0.
        pictures: from the folder of plots and the lines of `metrics.jsonl` to further sections of the report.

    Raises:
        runs.Stopped: it was asked to stop and has written a checkpoint.
        runs.Failed: a step was not fit for the weights, and `bad_step` is `stop`.
    """
    import lightning.pytorch as pl
    from nemo import lightning as nl

    here = platforms.prepare()
    pl.seed_everything(cfg.run.seed, verbose=False)
    steps = run.folder / "steps"
    if run.is_writer:
        checkpoints.clear(steps)
    resumed = checkpoints.newest(steps)
    run.truncate_metrics(resumed[0] if resumed else -1)

    if not load:
        for path in text.sources(cfg.data, list(train.data)):
            run.input(path)
    data, counts = load() if load else _text(cfg, train, key, tokenizer)
    if wrap:
        wrap(data)
    validate_first = validate_first and not resumed
    sharded = trainer.sharded_optimizer(cfg.platform, here, resumed[1] if resumed else None)
    logged_to = loggers.build(cfg, run.folder, key)
    made = trainer.build(cfg.platform, here, train, data.heldout_batches, logged_to, validate_first, sharded)
    heldout = HeldoutLoss(data.heldout_sets, watch)
    guard = Guard(train.bad_step, train.spike, train.global_batch_size, key)
    per_step = tokens_per_step or train.global_batch_size * train.seq_length
    metrics = Metrics(run, train, key, heldout, guard, per_step, flops_per_token, peak_flops(cfg), watch)
    final = run.folder / leave
    with Stops(train.stop_minutes) as stops:
        saving = checkpoints.StepCheckpoint(train, steps, final, stops, metrics.validated)
        made.callbacks.extend([*callbacks, heldout, guard, metrics, saving, *after])
        start(
            data=data,
            trainer=made,
            optim=trainer.optimizer(cfg.platform, here, train, sharded),
            resume=trainer.resume(resumed[1] if resumed else None),
            log=nl.NeMoLogger(explicit_log_dir=str(run.folder / "nemo"), update_logger_directory=False),
        )
    outputs = {leave: final}
    if run.is_writer:
        events = [*([f"resumed at step {resumed[0]:,}"] if resumed else []), *guard.events]
        known = {**schedule(train, per_step), **_labelled(counts), "precision": trainer.precision(cfg.platform, here).value}
        told = training_report.Trained(
            f"{cfg.run.name}: {key}", run.read_metrics(), {**(facts or {}), **known, **(facts or {})}, paper, events, pictures
        )
        outputs |= training_report.write(run.folder, told)
    lines = logged(run, metrics.last)
    best = checkpoints.best(steps, metrics.validated)
    return Fit(outputs, lines[0], lines[-1], metrics.validated, best, counts, whole_speed(lines, per_step))


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


def _text(cfg: Recipe, train: TrainConfig, key: str, tokenizer):
    """Data module and counts of a stage that trains on text."""
    return text.data_module(
        cfg.data,
        list(train.data),
        f"{key}.data",
        tokenizer,
        text.cache_folder(cfg.run.root),
        seed=cfg.run.seed,
        seq_length=train.seq_length,
        micro_batch_size=train.micro_batch_size,
        global_batch_size=train.global_batch_size,
    )


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


def peak_flops(cfg: Recipe) -> float | None:
    """Dense bf16 operations a second of all GPUs of the job, from `conf/device/`; None on a CPU or an unknown GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    device = devices.named(torch.cuda.get_device_name())
    return device and device.flops_per_second * cfg.platform.devices * cfg.platform.nodes
