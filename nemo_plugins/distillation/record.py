"""Record the teacher: one pass over the samples that a distillation will read, its top-k or draws of each token to files.

What NeMo lacks: its teacher can only run beside the student, so that ten candidates pay for it ten times.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from megatron.core import parallel_state
from nemo.collections.llm.gpt.model.base import get_packed_seq_params
from nemo.utils.model_utils import unwrap_model
from torch import distributed
from torch.utils.data import default_collate

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.data import blend, text, tokens
from nemo_plugins.distillation import records
from nemo_plugins.distillation.losses import topk_record
from nemo_plugins.distillation.record_rows import TopKRows
from nemo_plugins.distillation.sampled import sampled_record, uniforms
from nemo_plugins.models import nemo
from nemo_plugins.training import trainer
from nemo_plugins.training.parameters import settled
from nemo_plugins.training.stop_requests import StopRequests
from nemo_plugins.training.vocabulary_parallel import vocabulary_group

INTERVAL = 20.0  # seconds between lines of progress


def header(cfg: Recipe, teacher: Path, tokenizer) -> records.Recorded:
    """What a distillation of this configuration asks of a recording.

    Args:
        teacher: its checkpoint.
        tokenizer: NeMo's `AutoTokenizer`.
    """
    distill, here = cfg.distill, platforms.prepare()
    sources = [runs.fingerprint(runs.resolve(path)) for path in distill.data]
    return records.Recorded(
        teacher=runs.fingerprint(teacher / "weights"),
        tokenizer=tokens.tokenizer_fingerprint(tokenizer.tokenizer),
        text=[*sources, *blend.settings(cfg.data)],
        exercises=cfg.data.exercises,
        seed=cfg.run.seed,
        seq_length=distill.seq_length,
        samples=distill.max_steps * distill.global_batch_size,
        temperature=distill.loss.temperature,
        top_k=distill.loss.top_k,
        draws=distill.loss.draws,
        vocabulary=cfg.model.vocab_size,
        precision=trainer.precision(cfg.platform, here).value,
        document_boundaries=cfg.data.document_boundaries,
        versions=records.versions(),
    )


class Recording(Callback):
    """Runs the teacher over the training samples before a validation begins, when NeMo has loaded it.

    Args:
        data: the distillation's data module.
        writer: of the files.
        rows: samples at a time.
        temperature: the distillation's.
        stops: says when to stop.
    """

    def __init__(self, data, writer: records.Writer, rows: int, temperature: float, stops: StopRequests):
        self.data = data
        self.writer = writer
        self.rows = rows
        self.temperature = temperature
        self.stops = stops

    def on_validation_start(self, trainer, pl_module) -> None:
        with settled(trainer.strategy.megatron_parallel):  # a copy whose samples are all recorded runs no forward pass
            self.record(pl_module)

    def record(self, pl_module) -> None:
        """This copy's share of what is missing."""
        self.stops.take()
        header = self.writer.recorded
        model = unwrap_model(pl_module.module)
        parts, part = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
        missing = self.writer.missing(part, parts)
        began = spoke = time.monotonic()
        for place, samples in enumerate(missing):
            if self.agreed():
                raise runs.Stopped(self.stops.why or "another process of the job was asked to")
            made = self.shard(model, samples)
            if parallel_state.get_tensor_model_parallel_rank() == 0:
                self.writer.write(samples.start, made)
            now, done = time.monotonic(), place + 1
            if runs.rank() == 0 and (now - spoke > INTERVAL or done == len(missing)):
                spoke, rate = now, done / (now - began)
                speed = rate * parts * len(samples) * header.seq_length
                left = (len(missing) - done) / rate / 60
                runs.console(2).print(f"record: file {done:,}/{len(missing):,}  {speed:,.0f} tokens/s  {left:.1f} min left")

    def agreed(self) -> bool:
        """Whether any process of this copy of the teacher was asked to stop: its parts meet in every forward pass."""
        asked = torch.tensor(bool(self.stops.asked()), dtype=torch.int, device=torch.cuda.current_device())
        group = parallel_state.get_tensor_model_parallel_group()
        distributed.all_reduce(asked, distributed.ReduceOp.MAX, group=group)
        return bool(asked)

    @torch.no_grad()
    def shard(self, model, samples: range) -> dict[str, torch.Tensor]:
        """What is kept of the teacher of some samples, `[n, s, …]`, and their tokens `[n, s]`."""
        kept = []
        for start in range(samples.start, samples.stop, self.rows):
            some = range(start, min(start + self.rows, samples.stop))
            items = [self.data._train_ds[i] for i in some]
            given = default_collate(items).items()
            batch = {name: value.cuda() if value.dim() > 1 else value for name, value in given}  # counts stay on the host
            packed = {"packed_seq_params": get_packed_seq_params(batch)} if "cu_seqlens" in batch else {}
            logits = model(batch["tokens"], batch["position_ids"], batch.get("attention_mask"), **packed)  # [b, s, v/tp]
            record = self.of_logits(logits.transpose(0, 1), some)
            kept.append((*(value.transpose(0, 1).cpu() for value in record), batch["tokens"].cpu()))
        names = (*self.writer.recorded.rows.shapes(), "tokens")
        return {name: torch.cat(parts) for name, parts in zip(names, zip(*kept, strict=True), strict=True)}

    def of_logits(self, logits: torch.Tensor, samples: range) -> tuple[torch.Tensor, ...]:
        """What is kept of `[s, b, v/tp]`, `[s, b, …]` each."""
        header, group = self.writer.recorded, vocabulary_group()
        if isinstance(header.rows, TopKRows):
            return topk_record(logits, header.rows.k, temperature=self.temperature, group=group)
        numbers = [uniforms(header.seed, sample, header.seq_length, header.rows.draws) for sample in samples]
        return sampled_record(logits, torch.stack(numbers, 1), temperature=self.temperature, group=group)


def run(cfg: Recipe, run: runs.Run) -> None:
    """Record the run's teacher into `<run>/record`."""
    here = platforms.prepare()
    from nemo import lightning as nl
    from nemo.collections import llm
    from nemo.lightning import io
    from nemo.lightning.ckpt_utils import ckpt_to_context_subdir

    distill, teacher = cfg.distill, run.input(runs.teacher(cfg))
    for path in text.sources(cfg.data, list(distill.data)):
        run.input(path)
    tokenizer = nemo.checkpoint_tokenizer(teacher)
    folder = run.folder / "record"
    writer = records.Writer(folder, header(cfg, teacher, tokenizer))
    for warning in writer.warnings:
        runs.console(2).print(f"warning: the recording began with another version: {warning}")
    data, counts = text.data_module(
        cfg.data,
        list(distill.data),
        "distill.data",
        tokenizer,
        text.cache_folder(cfg.run.root),
        text.BatchShape(distill.seq_length, distill.micro_batch_size, distill.global_batch_size),
        seed=cfg.run.seed,
    )
    made = trainer.build(cfg.platform, here, distill, 1, [])
    with StopRequests(distill.stop_minutes) as stops:
        made.callbacks.append(Recording(data, writer, distill.micro_batch_size, distill.loss.temperature, stops))
        llm.validate(
            io.load_context(ckpt_to_context_subdir(str(teacher)), subpath="model"),
            data,
            made,
            log=nl.NeMoLogger(explicit_log_dir=str(run.folder / "nemo"), update_logger_directory=False),
            resume=nl.AutoResume(restore_config=nl.RestoreConfig(path=str(teacher))),
            tokenizer=tokenizer,
        )
    told = writer.recorded
    run.finish(
        outputs={"record": folder},
        next=runs.command(cfg, "distill", "teacher.mode=cached", told.rows.override),
        metrics={"bytes_per_token": writer.bytes_per_token()},
        data={**counts, "tokens": told.samples * told.seq_length},
    )
