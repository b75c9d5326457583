"""The teacher as NeMo loads it for pruning: its held-out loss, and its scores, measured once and kept for all runs.

What NeMo lacks: `llm.prune` always computes in bf16, and tells neither scores nor losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Criterion, DataConfig, Precision, Recipe
from nemo_plugins.data import blend, text, tokens
from nemo_plugins.models import nemo
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.pruning import calibrate, compensate, depth, layer_removal, score_file, scores
from nemo_plugins.pruning.layer_removal import Removals
from nemo_plugins.pruning.score_file import Measured
from nemo_plugins.pruning.scores import Scores
from nemo_plugins.runs import locks
from nemo_plugins.runs.progress import Progress
from nemo_plugins.training import process_groups
from nemo_plugins.training import trainer as training
from nemo_plugins.training.heldout import HeldoutLoss


class LoadedTeacher:
    """What pruning knows of the teacher before and after it is loaded.

    Attributes:
        teacher: its sizes.
        data: calibration text as NeMo's data module; `counts` its tokens.
        model, trainer: NeMo's, once `attach` was called.
        scores, removals: once obtained; None where nothing asked for them.
        progress: counts the batches that are measured.
    """

    def __init__(self, cfg: Recipe, checkpoint: Path, is_writer: bool, title: str = "prune"):
        self.cfg = cfg
        self.checkpoint = checkpoint
        self.is_writer = is_writer
        self.teacher = runs.architecture(cfg.model)
        self.precision = training.precision(cfg.platform, platforms.prepare())
        calibration = cfg.prune.calibration
        make_data = partial(
            text.data_module,
            without_more(cfg.data),
            list(calibration.data),
            "prune.calibration.data",
            nemo.checkpoint_tokenizer(checkpoint),
            text.cache_folder(cfg.run.root),
            # `llm.prune` wants a step of one micro-batch
            text.BatchShape(calibration.seq_length, calibration.micro_batch_size, calibration.micro_batch_size),
            seed=cfg.run.seed,
        )
        (self.data, self.counts), (self.heldout, _) = make_data(), make_data()  # NeMo serves the train set as held-out set
        if self.counts["train_tokens"] <= calibration.seq_length:
            raise runs.UserError(
                f"prune.calibration.data: {self.counts['train_tokens']:,} tokens are less than one sequence",
                f"expected more than prune.calibration.seq_length={calibration.seq_length}",
                "take a longer text or a shorter sequence",
            )
        self.batches = calibration.samples // calibration.micro_batch_size
        self.scores: Scores | None = None
        self.removals: Removals | None = None
        self.measured_here = False
        self.progress = Progress(title, unit="batches")

    def measured(self) -> Measured:
        """What scores measured by this process say of themselves."""
        calibration = self.cfg.prune.calibration
        return Measured(
            teacher=runs.fingerprint(self.checkpoint / "weights"),
            architecture=self.teacher.as_dict(),
            layer_spec=score_file.layer_spec(platforms.prepare().has_transformer_engine),
            precision=self.precision.value,
            samples=calibration.samples,
            seq_length=calibration.seq_length,
            micro_batch_size=calibration.micro_batch_size,
            seed=self.cfg.run.seed,
            text=[*(runs.fingerprint(runs.resolve(path)) for path in calibration.data), *self._read_as()],
            exercises=self.cfg.data.exercises,
            subsets=subsets(self.batches, calibration.subsets),
            versions=score_file.versions(),
        )

    def _read_as(self) -> list[str]:
        """What beside the texts decides which windows are read."""
        data = self.cfg.data
        tokenizer = tokens.tokenizer_fingerprint(nemo.checkpoint_tokenizer(self.checkpoint).tokenizer)
        boundaries = ["document boundaries"] if data.document_boundaries else []
        return [f"tokenizer {tokenizer}", *blend.settings(data), *boundaries]

    def attach(self, model, trainer) -> None:
        """Take over what NeMo loaded."""
        from nemo.lightning.callback_group import CallbackGroup

        CallbackGroup.get_instance()._callbacks.clear()  # NeMo's telemetry takes a second validation for an error
        self.model, self.trainer = model, trainer
        trainer.logger = None  # Lightning's own writes into the current folder, which may be an image's
        process_groups.wait(self.cfg.platform.process_group_minutes)
        self.data.val_dataloader = self.data.train_dataloader  # as nemo/collections/llm/modelopt/prune/pruner.py:104

    def heldout_loss(self, of: str) -> float:
        """Held-out loss of the model as it stands, nats a token; the same on every rank. `of` names it."""
        self.progress.now(f"held-out loss of the {of}", self.heldout.heldout_batches)
        return self._validate(self.heldout, self.heldout.heldout_batches)

    def _validate(self, data, batches: int) -> float:
        from nemo.collections.llm import api

        self.trainer.limit_val_batches = batches
        measured, counted = HeldoutLoss(), Counted(self.progress)
        self.trainer.callbacks.extend([measured, counted])
        try:
            api.validate(self.model, data=data, trainer=self.trainer, tokenizer="model")
        finally:
            self.trainer.callbacks.remove(measured)
            self.trainer.callbacks.remove(counted)
        return measured.mean()

    @property
    def dynamic(self):
        return calibrate.dynamic_model(self.model)

    def rank_width(self) -> None:
        """Give ModelOpt the scores of neurons, channels and heads, measured, read or drawn."""
        if self.cfg.prune.criterion is not Criterion.random:
            self.need_scores().into(self.dynamic, self.cfg.prune.aggregation)
            return
        generator = torch.Generator().manual_seed(self.cfg.run.seed)
        big = self.teacher
        widths = {"ffn": big.ffn_hidden_size, "heads": big.num_attention_heads * big.head_dim}
        drawn = {
            (where, layer): torch.rand(widths.get(where, big.hidden_size), generator=generator)
            for layer in range(big.num_layers)
            for where in scores.WIDTH
        }
        scores.assign(self.dynamic, lambda where, layer, like: drawn[where, layer].to(like))

    def choose_layers(self, student: Architecture) -> list[int]:
        """Layers that the student keeps, from 0, by the configured criterion; measures what it needs."""
        criterion, big = self.cfg.prune.criterion, self.teacher
        gone = big.num_layers - student.num_layers
        if gone and criterion is Criterion.loss:
            self.need_removals(layer_removal.runs_of(1, big.num_layers))
        if gone and criterion is Criterion.loss_run:
            self.need_removals(layer_removal.runs_of(gone, big.num_layers))
        influence = self.need_scores().layers.tolist() if gone and criterion is Criterion.importance else None
        return depth.kept_layers(criterion, big.num_layers, student.num_layers, influence, self.removals, self.cfg.run.seed)

    def ffn_moments(self, kept: list[int]) -> dict[int, torch.Tensor]:
        """Second moments of the FFN's activations in these layers (from 0), the only ones that compute; see `compensate`."""
        self.progress.now("what the FFN's neurons share", self.batches)
        dropped = set(range(self.teacher.num_layers)) - set(kept)
        was_training = self.model.training
        self.model.eval()
        with layer_removal.without(self.dynamic, dropped):
            moments = compensate.second_moments(self.dynamic, kept, lambda: self._validate(self.data, self.batches))
        self.model.train(was_training)
        return moments

    def need_scores(self) -> Scores:
        """The scores: those that `prune.scores` names, else those of the same teacher and calibration, else measured now.

        Raises:
            runs.UserError: `prune.scores` are of another teacher, spec or version.
        """
        if self.scores is None:
            asked, given = self.measured(), self.cfg.prune.scores
            if given:
                path = runs.resolve(given)
                score_file.check(path, asked)
                self.scores = Scores.load(path)
            else:
                self.scores = self._kept_or_measured(self.store(asked), asked)
        return self.scores

    def store(self, asked: Measured) -> Path:
        """Where scores are kept between runs, `<run.root>/.scores/<key>.safetensors`."""
        return Path(self.cfg.run.root).expanduser() / ".scores" / f"{score_file.key(asked)}.safetensors"

    def _kept_or_measured(self, path: Path, asked: Measured) -> Scores:
        with locked(path) if self.is_writer else nullcontext():  # candidates of a job array wait for the first
            here = [path.is_file()]
            process_groups.meet(torch.distributed.group.WORLD)
            torch.distributed.broadcast_object_list(here)  # rank 0 decides for all
            if here[0]:
                return Scores.load(path)
            self.progress.now("importance", self.batches)
            measured = calibrate.measure(self.model, self.trainer, lambda: self._validate(self.data, self.batches), asked)
            self.measured_here = True
            if self.is_writer:
                score_file.save(path, measured.tensors, asked)
            return measured

    def need_removals(self, which: list[layer_removal.Run]) -> Removals:
        """Losses without these runs of layers, on `prune.calibration.loss_samples` of the calibration text."""
        calibration = self.cfg.prune.calibration
        samples = min(calibration.loss_samples or calibration.samples, calibration.samples)
        batches = max(1, samples // calibration.micro_batch_size)
        path = self.store(self.measured()).with_suffix(f".removals-{batches * calibration.micro_batch_size}.json")
        known = layer_removal.Removals.load(path) if self.is_writer else None
        todo = [run for run in which if run not in known.losses] if known else [*which, None]
        self.progress.now("loss without layers", len(todo) * batches)
        was_training = self.model.training
        self.model.eval()
        self.removals = layer_removal.measure(
            self.dynamic, lambda: self._validate(self.data, batches), which, path, self.is_writer
        )
        self.model.train(was_training)
        return self.removals


def inputs(cfg: Recipe) -> list[Path]:
    """The files beside the teacher that decide what is pruned."""
    scores = [runs.resolve(cfg.prune.scores)] if cfg.prune.scores else []
    return [*text.sources(without_more(cfg.data), list(cfg.prune.calibration.data)), *scores]


def without_more(data: DataConfig) -> DataConfig:
    """With one held-out text: the loss before and after is one number."""
    return replace(data, heldout_more={})


class Counted(Callback):
    """Counts validated batches."""

    def __init__(self, progress: Progress):
        self.progress = progress

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.progress.advance()


def subsets(batches: int, asked: int) -> int:
    """Parts that a calibration of so many micro-batches is kept in: the most, up to `asked`, that divide it."""
    return max(parts for parts in range(1, min(asked, batches) + 1) if batches % parts == 0)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock beside a file while it is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        locks.take(lock)
        yield


def load(loaded: LoadedTeacher) -> None:
    """Load the teacher as `llm.prune` does (nemo/collections/llm/api.py:358), without pruning it, and make it searchable."""
    import modelopt.torch.nas as mtn
    from modelopt.torch.prune.pruning import PruneModeRegistry
    from nemo.collections.llm import api

    platform = loaded.cfg.platform
    with in_precision(loaded.precision):
        model, trainer = api.setup_trainer_and_restore_model_with_modelopt_spec(
            model_path=str(loaded.checkpoint),
            pipeline_model_parallel_size=platform.pipeline_parallel,
            devices=platform.devices,
            num_nodes=platform.nodes,
            inference_only=True,
            strategy_kwargs={"sequence_parallel": False, "replace_progress_bar": False},
            trainer_kwargs={
                "max_steps": loaded.batches,
                "limit_val_batches": loaded.batches,
                "val_check_interval": loaded.batches,
            },
            model_config_overrides={"sequence_parallel": False},
        )
    loaded.attach(model, trainer)
    mtn.convert(model, "mcore_minitron", registry=PruneModeRegistry)


@contextmanager
def nemo_log(folder: Path) -> Iterator[None]:
    """Within it, NeMo's log goes to `folder`; `llm.prune` and `llm.validate` would write it to the current directory."""
    from nemo.collections.llm import api

    logger = api.NeMoLogger
    api.NeMoLogger = partial(logger, explicit_log_dir=str(folder), update_logger_directory=False)
    try:
        yield
    finally:
        api.NeMoLogger = logger


@contextmanager
def in_precision(name: Precision) -> Iterator[None]:
    """Within it, what NeMo loads for pruning computes in this precision; NeMo itself knows only bf16."""
    if name is Precision.bf16:
        yield
        return
    from nemo import lightning as nl
    from nemo.collections.llm.modelopt import model_utils

    plugin, restore, ours = (
        nl.MegatronMixedPrecision,
        model_utils._setup_trainer_and_restore_model,
        training.mixed_precision(name),
    )

    def restore_in_precision(path, trainer, model, tokenizer=None):
        trainer.strategy.pipeline_dtype = training.dtype(name)
        restore(path, trainer, model, tokenizer)

    nl.MegatronMixedPrecision = lambda **_: ours  # an instance: NeMo writes the classes of what it saves by their import path
    model_utils._setup_trainer_and_restore_model = restore_in_precision
    try:
        yield
    finally:
        nl.MegatronMixedPrecision, model_utils._setup_trainer_and_restore_model = plugin, restore
