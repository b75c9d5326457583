"""Steps, batches and lengths by how much data there is, where an experiment writes `${by_data:MOST}`.

Own choices: four passes over a text, for up to four are worth nearly as much as new text (arXiv 2305.16264); a batch as large
as leaves 500 steps. Three passes over dialogues and pairs and one over prompts are the Bielik-Minitron paper's (2603.11881).
Data that are not here, or cannot be counted, leave the most that the others allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from nemo_plugins.configs.schema import DpoConfig, GrpoConfig, Recipe, SftConfig, TrainConfig
from nemo_plugins.planning import memory, text_size
from nemo_plugins.runs.errors import UserError

NAME = "by_data"
PASSES = {"distill": 4, "sft": 3, "dpo": 3, "grpo": 1}
STEPS = 500
WINDOWS = 64  # of the text, at least: a shorter one is cut into shorter windows
SHORTEST = 64  # tokens of a window
ROLLOUTS, PROMPTS = 100, 16  # of a training by rewards, at least; prompts of each, as long as there are so many


def register() -> None:
    """Let `${by_data:MOST}` be read as MOST, which it is until the data are looked at."""
    OmegaConf.register_new_resolver(NAME, lambda most: most, replace=True)


def keys(composed: DictConfig) -> list[str]:
    """Dotted keys of a configuration that are left to the data."""
    return list(_found(OmegaConf.to_container(composed, resolve=False), ""))


def _found(node: object, key: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, inner in node.items():
            yield from _found(inner, f"{key}.{name}" if key else name)
    elif isinstance(node, str) and node.startswith(f"${{{NAME}:"):
        yield key


def numbers(cfg: Recipe, left: list[str]) -> dict[str, int]:
    """Values of the keys that are left to the data.

    Args:
        cfg: with the most that each may be.
        left: those keys.

    Raises:
        UserError: a key that no data say anything of.
    """
    found: dict[str, int] = {}
    sections = {key.partition(".")[0] for key in left}
    if "prune" in sections:
        found |= _calibration(cfg, left)
    if "distill" in sections:
        found |= _on_text(cfg, left)
    for section in ("sft", "dpo", "grpo"):
        if section in sections:
            found |= _on_rows(cfg, left, section)
    if wrong := [key for key in left if key not in found]:
        raise UserError(
            f"{wrong[0]}: ${{{NAME}:…}} stands where no data say what it should be",
            "expected a number; conf/experiment/own.yaml has the keys that go by the data",
        )
    return found


@dataclass(frozen=True)
class _Section:
    """A training section, its keys that are left to the data, and the samples of a micro-batch on all copies of the model."""

    name: str
    train: TrainConfig
    left: list[str]
    unit: int

    @classmethod
    def of(cls, cfg: Recipe, name: str, left: list[str]) -> _Section:
        train = getattr(cfg, name)
        return cls(name, train, left, train.micro_batch_size * max(1, memory.data_parallel(cfg.platform)))

    def is_left(self, key: str) -> bool:
        return f"{self.name}.{key}" in self.left

    def named(self, **values: int) -> dict[str, int]:
        return {f"{self.name}.{key}": value for key, value in values.items()}


def _calibration(cfg: Recipe, left: list[str]) -> dict[str, int]:
    calibration = cfg.prune.calibration
    tokens, heldout = text_size.total(cfg, calibration.data), _heldout(cfg)
    length, samples = calibration.seq_length, calibration.samples
    if (tokens or heldout) and "prune.calibration.seq_length" in left:
        length = _length(length, tokens, heldout, calibration.micro_batch_size)
    if tokens and "prune.calibration.samples" in left:
        batches = min(samples, tokens // length) // calibration.micro_batch_size
        samples = max(1, batches) * calibration.micro_batch_size
    return {"prune.calibration.seq_length": length, "prune.calibration.samples": samples}


def _on_text(cfg: Recipe, left: list[str]) -> dict[str, int]:
    section = _Section.of(cfg, "distill", left)
    train = section.train
    tokens, heldout = text_size.total(cfg, train.data), _heldout(cfg)
    length = train.seq_length
    if (tokens or heldout) and section.is_left("seq_length"):
        length = _length(length, tokens, heldout, section.unit)
    windows = PASSES["distill"] * tokens // length if tokens else None
    return section.named(seq_length=length) | _schedule(section, windows, heldout and (heldout - 1) // length)


def _on_rows(cfg: Recipe, left: list[str], name: str) -> dict[str, int]:
    section = _Section.of(cfg, name, left)
    data: SftConfig | DpoConfig | GrpoConfig = getattr(cfg, name)
    rows, heldout = text_size.rows(cfg, data.data), text_size.rows(cfg, data.heldout)
    count, held = rows.count if rows else None, heldout.count if heldout else None
    if isinstance(data, GrpoConfig):
        return _rollouts(section, data, count, held)
    if name == "sft":  # dialogues share windows
        count = -(-rows.tokens // data.seq_length) if rows else None
        held = heldout.tokens // data.seq_length if heldout else None
    return _schedule(section, PASSES[name] * count if count else None, held)


def _length(most: int, tokens: int | None, heldout: int | None, unit: int) -> int:
    """Tokens of a window: the most, halved until the text has enough of them and the held-out text a batch."""

    def is_too_long(length: int) -> bool:
        return bool(tokens and tokens < WINDOWS * length or heldout is not None and heldout <= length * unit)

    length = most
    while length // 2 >= SHORTEST and is_too_long(length):
        length //= 2
    return length


def _schedule(section: _Section, samples: int | None, heldout: int | None) -> dict[str, int]:
    """Batch, steps and what is counted in steps.

    Args:
        samples: of all passes; None: not known, and the batch is what validation can fill.
        heldout: samples of which validation makes whole batches; None: not known.
    """
    batch, steps = section.train.global_batch_size, section.train.max_steps
    if (samples or heldout) and section.is_left("global_batch_size"):
        most = batch if heldout is None else heldout
        fits = [size for size in _batches(batch) if size % section.unit == 0 and size <= most]
        many = [size for size in fits if samples is None or samples // size >= STEPS]
        batch = max(many, default=min(fits, default=section.unit))
    if samples and section.is_left("max_steps"):
        steps = max(1, min(steps, samples // batch))
    return section.named(global_batch_size=batch) | _in_steps(section, steps)


def _in_steps(section: _Section, steps: int) -> dict[str, int]:
    train = section.train
    every = {name: getattr(train, name) for name in ("validate_every", "checkpoint_every")}
    for name in every:
        if section.is_left(name):
            every[name] = min(every[name], max(1, steps // 10))
    between = min(every["validate_every"], steps)
    if section.is_left("max_steps"):
        steps = steps // between * between  # the last weights are measured
    elif section.is_left("validate_every"):
        every["validate_every"] = max(size for size in range(1, between + 1) if steps % size == 0)
    warmup = min(train.warmup_steps, steps // 20) if section.is_left("warmup_steps") else train.warmup_steps
    return section.named(max_steps=steps, warmup_steps=warmup, **every)


def _rollouts(section: _Section, grpo: GrpoConfig, prompts: int | None, heldout: int | None) -> dict[str, int]:
    drawn, batch, steps, longest = grpo.prompts, grpo.global_batch_size, grpo.max_steps, grpo.max_tokens
    if section.is_left("max_tokens"):
        longest = min(longest, grpo.seq_length // 2)
    if prompts and section.is_left("prompts"):
        drawn = next((size for size in _batches(drawn) if prompts // size >= ROLLOUTS), 1)
        drawn = max(drawn, min(PROMPTS, grpo.prompts, prompts))
    if prompts and section.is_left("global_batch_size"):
        rows = drawn * grpo.group_size
        most = min(rows, batch, heldout or rows)
        batch = next((size for size in range(most, 0, -1) if rows % size == 0 and size % section.unit == 0), section.unit)
    if prompts and section.is_left("max_steps"):
        updates = max(1, grpo.epochs * drawn * grpo.group_size // batch)
        steps = max(1, min(steps, prompts // drawn * updates))
    return section.named(max_tokens=longest, prompts=drawn, global_batch_size=batch) | _in_steps(section, steps)


def _batches(most: int) -> list[int]:
    """The most, then powers of two, descending."""
    return [most, *(1 << power for power in reversed(range((most - 1).bit_length())))]


def _heldout(cfg: Recipe) -> int | None:
    """Tokens of the held-out text; half of an estimate, for a batch that it does not fill would end the stage."""
    found = text_size.of(cfg, cfg.data.heldout[0], text_size.COUNTED) if cfg.data.heldout else None
    if not found:
        return None
    return found.tokens if found.whole else found.tokens // 2
