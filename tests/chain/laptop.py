"""A short chain on the bundled model, driven by the command line as a user would."""

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import warm_start

REPOSITORY = Path(__file__).resolve().parents[2]
HELDOUT = 16  # windows
# fp32 on any CPU, a handful of steps: what is tested is exact, not good
SHORT = (
    "platform.precision=fp32",
    f"data.heldout_samples={HELDOUT}",
    "prune.calibration.samples=8",
    "prune.calibration.loss_samples=0",
    "distill.max_steps=6",
    "distill.seq_length=64",
    "distill.micro_batch_size=4",
    "distill.global_batch_size=8",
    "distill.warmup_steps=1",
    "distill.checkpoint_every=2",
    "distill.validate_every=3",
    "sft.max_steps=4",
    "sft.seq_length=128",
    "sft.micro_batch_size=4",
    "sft.global_batch_size=8",
    "sft.warmup_steps=1",
    "sft.checkpoint_every=2",
    "sft.validate_every=2",
    "dpo.max_steps=4",
    "dpo.micro_batch_size=4",
    "dpo.global_batch_size=8",
    "dpo.warmup_steps=1",
    "dpo.checkpoint_every=2",
    "dpo.validate_every=2",
    "grpo.max_steps=4",
    "grpo.prompts=4",
    "grpo.group_size=4",
    "grpo.global_batch_size=8",  # two updates a rollout
    "grpo.micro_batch_size=4",
    "grpo.max_tokens=12",
    "grpo.refill=1",
    "grpo.warmup_steps=1",
    "grpo.checkpoint_every=1",
    "grpo.validate_every=2",
    "grpo.samples_every=1",
    "+grpo.rewards.boxed_math.length=0.5",  # what a model of a few steps can be told apart by
    "+grpo.rewards.multiple_choice.length=0.5",
    "+grpo.options.length.limit=8",
    "eval.limit=2",
    "eval.resamples=100",
    "export.imatrix.windows=2",
    "export.verify.windows=1",
    "export.verify.prompts=3",
    "export.verify.new_tokens=8",
    "bench.prompt_tokens=16",
    "bench.new_tokens=8",
    "bench.repetitions=2",
)
# a calibration of four micro-batches whose numbers can be held against another library's
MEASURED = (
    "prune.calibration.samples=16",
    "prune.calibration.micro_batch_size=4",
    "prune.calibration.loss_samples=8",
)


@dataclass(frozen=True)
class Laptop:
    """A run root with a finished short chain in it."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "tiny_pl-laptop"

    @property
    def few(self) -> list[str]:
        """Overrides: validation and preference pairs of a few rows; the reference of as many is soon measured."""
        sft, pairs, prompts = self.rows("sft_heldout", 96), self.rows("preferences_heldout", 64), self.rows("grpo_heldout", 24)
        return [f"sft.heldout=[{sft}]", f"dpo.data=[{pairs}]", f"dpo.heldout=[{pairs}]", f"grpo.heldout=[{prompts}]"]

    def rows(self, name: str, count: int) -> Path:
        """A file with the first rows of one of the samples."""
        path = self.root.with_name(f"{name}.jsonl")
        if not path.exists():
            whole = gzip.decompress((REPOSITORY / "assets" / "chat_samples" / f"{name}.jsonl.gz").read_bytes())
            partial = path.with_name(f"{os.getpid()}.partial")
            partial.write_text("".join(f"{line}\n" for line in whole.decode().splitlines()[:count]))
            os.replace(partial, path)
        return path

    def recipe(self, name: str, *overrides: str, **popen) -> subprocess.CompletedProcess:
        """Run a recipe of the same experiment and run root as a user would, without importing NeMo each time."""
        return warm_start.run(self.command(name, *overrides), **popen)

    def start(self, name: str, *overrides: str, until: Callable[[], bool], said: str | Path = os.devnull):
        """Start a recipe, whose output goes to the file `said`. Returns its process once `until()` is true."""
        process = warm_start.start(self.command(name, *overrides), said)
        deadline = time.monotonic() + 600
        while not until():
            assert process.poll() is None and time.monotonic() < deadline, f"{name} {overrides}: {process.poll()}"
            time.sleep(0.02)
        return process

    def command(self, name: str, *overrides: str) -> list[str]:
        start = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=tiny_pl", "experiment=laptop"]
        return [*start, f"run.root={self.root}", *self.few, *SHORT, *overrides]

    def summary(self, stage: str) -> dict:
        return json.loads((self.run / stage / "summary.json").read_text())

    def lines(self, stage: str) -> list[dict]:
        """What a stage logged."""
        return [json.loads(line) for line in (self.run / stage / "metrics.jsonl").read_text().splitlines()]

    def losses(self, stage: str, key: str = "loss") -> list[float]:
        """Logged values of a stage, by step."""
        return [line[key] for line in self.lines(stage) if key in line]


def ok(done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    assert done.returncode == 0, f"{' '.join(done.args)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def weights(checkpoint):
    """Every stored tensor of a NeMo checkpoint by name, optimizer state included."""
    import torch
    from torch.distributed.checkpoint import FileSystemReader, load
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = FileSystemReader(checkpoint / "weights")
    stored = reader.read_metadata().state_dict_metadata
    state = {
        k: torch.empty(m.size, dtype=m.properties.dtype) for k, m in stored.items() if isinstance(m, TensorStorageMetadata)
    }
    load(state, storage_reader=reader, no_dist=True)
    return state


def activations(folder: Path, tokens) -> dict[str, list]:
    """What a Hugging Face model computes on `tokens` `[b, s]` in transformers, fp32: by place, an array `[b, s, n]` a layer."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    places = {"ffn": [], "heads": [], "input_norm": [], "ffn_norm": [], "in": [], "out": []}

    def inputs(name):
        return lambda module, args: places[name].append(args[0].numpy())

    def outputs(name):
        return lambda module, args, out: places[name].append((out[0] if isinstance(out, tuple) else out).numpy())

    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(inputs("ffn"))
        layer.self_attn.o_proj.register_forward_pre_hook(inputs("heads"))
        layer.input_layernorm.register_forward_hook(outputs("input_norm"))
        layer.post_attention_layernorm.register_forward_hook(outputs("ffn_norm"))
        layer.register_forward_pre_hook(inputs("in"))
        layer.register_forward_hook(outputs("out"))
    with torch.no_grad():
        model(tokens)
    return places


def score(activations):
    """The paper's importance of each channel of `[b, s, n]`: mean of |a| over the sequence, L2 over the samples."""
    import numpy

    return numpy.sqrt((numpy.abs(activations).mean(1) ** 2).sum(0))


def train_batch(laptop: Laptop, recipe: str, index: int, *overrides: str, key: str | None = "tokens"):
    """Sample `index` of a stage's training or calibration text as Megatron serves it: its tokens `[s]`, or all of it."""
    return _train_set(laptop, recipe, overrides)[index][key] if key else _train_set(laptop, recipe, overrides)[index]


@cache
def _train_set(laptop: Laptop, recipe: str, overrides: tuple[str, ...]):
    from nemo_plugins.data import text
    from nemo_plugins.models import nemo
    from nemo_plugins.runs.prepare import compose

    cfg = compose(laptop.command(recipe, *overrides)[2:])
    if recipe == "prune":
        part = cfg.prune.calibration
        batch, steps = part.micro_batch_size, part.samples // part.micro_batch_size
    else:
        part = getattr(cfg, recipe)
        batch, steps = part.global_batch_size, part.max_steps
    module, _ = text.data_module(
        cfg.data,
        part.data,
        f"{recipe}.data",
        nemo.checkpoint_tokenizer(laptop.run / "convert-import" / "checkpoint"),
        text.cache_folder(cfg.run.root),
        text.BatchShape(part.seq_length, part.micro_batch_size, batch),
        seed=cfg.run.seed,
    )
    module.build(trainer_max_steps=steps)
    return module._train_ds
