"""One training run from a configuration: data, trainer, callbacks, resume, final checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe, TrainConfig
from nemo_plugins.data import text
from nemo_plugins.reporting import plots
from nemo_plugins.training import checkpoints, trainer
from nemo_plugins.training.heldout import HeldoutLoss
from nemo_plugins.training.progress import Metrics


@dataclass
class Fit:
    """What came of it."""

    checkpoint: Path  # weights alone, whole
    first: dict[str, float]  # metrics of step 1
    last: dict[str, float]  # metrics of the last step
    val_loss: float  # held-out loss of the weights that were written
    data: dict[str, int]  # token counts


def fit(cfg: Recipe, run: runs.Run, train: TrainConfig, key: str, tokenizer, start: Callable) -> Fit:
    """Train for `train.max_steps` steps and leave `<run>/checkpoint` with the weights.

    Args:
        train, key: the stage's section of the configuration and its name.
        tokenizer: NeMo's `AutoTokenizer` of the model.
        start: called with `data, trainer, optim, resume, log`; calls NeMo's `llm.train`, `llm.distill`, ….
    """
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import TensorBoardLogger
    from nemo import lightning as nl

    here = platforms.prepare()
    pl.seed_everything(cfg.run.seed, verbose=False)
    steps = run.folder / "steps"
    resumed = checkpoints.newest(steps)
    run.truncate_metrics(resumed[0] if resumed else 0)

    data, counts = text.data_module(
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
    loggers = [TensorBoardLogger(save_dir=str(run.folder), name="tensorboard", version="")] if cfg.logger.tensorboard else []
    made = trainer.build(cfg.platform, here, train, data.heldout_batches, loggers)
    heldout = HeldoutLoss()
    metrics = Metrics(run, train.global_batch_size * train.seq_length, train.log_every, key, heldout)
    validated = [(line["step"], line["val_loss"]) for line in run.read_metrics() if "val_loss" in line]
    metrics.val_loss = validated[-1] if validated else None
    final = run.folder / "checkpoint"
    saving = checkpoints.callback(steps, train.checkpoint_every, train.keep_checkpoints, final)
    made.callbacks.extend([heldout, metrics, saving])

    start(
        data=data,
        trainer=made,
        optim=trainer.optimizer(cfg.platform, here, train),
        resume=trainer.resume(resumed[1] if resumed else None),
        log=nl.NeMoLogger(explicit_log_dir=str(run.folder / "nemo"), update_logger_directory=False),
    )
    if run.is_writer:
        plots.training(run.folder / "plots" / "loss.png", run.read_metrics(), f"{cfg.run.name}: {key}")
    logged = [line for line in run.read_metrics() if "loss" in line] if run.is_writer else [metrics.last]
    return Fit(final, logged[0], logged[-1], metrics.val_loss[1], counts)
