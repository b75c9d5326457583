"""What a measurement of speed would run: which models, in what, how often, and whether it fits here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import Backend, Format, Recipe, Target
from nemo_plugins.configs.store import CONF, options
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, decode, devices, inputs, quantize_plan, training_bench_plan, weights
from nemo_plugins.planning.budget import gigabytes
from nemo_plugins.planning.estimate import PAPER
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.command_line import override
from nemo_plugins.runs.errors import UserError

ROLES = ("teacher", "student")
GGUF_STAGES = {"teacher": "teacher-quantize", "student": "quantize"}


@dataclass(frozen=True)
class Shape:
    """A model of `conf/model/` and as much of it as is built."""

    name: str
    full: Architecture
    built: Architecture
    half: Architecture  # a second size, so that what a layer costs can be told from the rest


def plan(cfg: Recipe) -> Plan:
    """Validate a measurement. Raises UserError naming the key."""
    bench = cfg.bench
    at_least(1, bench, "bench", "prompt_tokens", "repetitions", "layers")
    at_least(2, bench, "bench", "new_tokens")
    at_least(0, bench, "bench", "warmup")
    if bench.training:
        return training_bench_plan.plan(cfg)
    if not bench.concurrency or min(bench.concurrency) < 1:
        raise UserError(f"bench.concurrency={bench.concurrency}: expected numbers of at least 1, e.g. [1,2,4]")
    if bench.device:
        devices.load(bench.device, "bench.device")
    if wrong := [target.value for target in bench.formats if target not in quantize_plan.GGUF]:
        raise UserError(f"bench.formats: {wrong[0]} is no GGUF format", f"expected {', '.join(quantize_plan.GGUF)}")
    checks.single_process(cfg.platform, "a measurement")
    return _shapes(cfg) if bench.shapes else _models(cfg)


def _models(cfg: Recipe) -> Plan:
    bench = cfg.bench
    rows: list[tuple] = []
    if not bench.backends:
        raise UserError("bench.backends=[]: nothing to time", f"expected some of: {', '.join(Backend)}")
    made = Plan(f"time {cfg.run.name}: teacher against student")
    checks.fits_context("bench.prompt_tokens + bench.new_tokens", bench.prompt_tokens + bench.new_tokens, cfg.model)
    if Backend.llama_cpp in bench.backends:
        made.need("package", checks.package, "cyllama", "llama.cpp")
    for role in ROLES:
        for backend in bench.backends:
            if backend is Backend.llama_cpp:
                for target in bench.formats:
                    found = made.need("earlier", gguf, cfg, role, target)
                    rows.append((role, backend, target, found or "not here"))
            elif backend is Backend.transformers:
                kind = "earlier" if role == "student" and not bench.student else "weights"
                rows.append((role, backend, "", made.need(kind, folder, cfg, role) or "not here"))
            else:
                rows.append((role, backend, "", server(cfg, role)))
    made.tables.append(Table("Models", rows, ["", "backend", "format", "where"], numbers=False))
    made.tables.append(_how(cfg))
    made.sizes = f"{bench.repetitions} x {bench.new_tokens} tokens, {', '.join(backend.value for backend in bench.backends)}"
    return made


def _shapes(cfg: Recipe) -> Plan:
    made = Plan(f"time random weights of the shapes of {', '.join(cfg.bench.shapes)}")
    made.need("package", checks.package, "cyllama", "llama.cpp")
    built = shapes(cfg)
    rows = [
        (
            shape.name,
            f"{shape.built.num_layers} and {shape.half.num_layers} of {shape.full.num_layers}",
            *(gigabytes(quantize_plan.stored_bytes(shape.built, target)) for target in cfg.bench.formats),
        )
        for shape in built
    ]
    need = max(sum(quantize_plan.stored_bytes(shape.built, target) for shape in built) for target in cfg.bench.formats)
    made.need("memory", checks.host_memory, need, "holding the random weights")
    checks.room(made, cfg, paths.run_root(cfg) / (cfg.run.stage or "bench"), 2 * need)
    made.tables.append(Table("Random weights", rows, ["", "layers", *(target.value for target in cfg.bench.formats)]))
    made.tables.append(_how(cfg))
    made.warnings.append(
        "layers that are not built are extrapolated from the bytes that a token moves; such figures are marked"
    )
    made.sizes = f"{', '.join(cfg.bench.shapes)}, {cfg.bench.layers} layers"
    return made


def shapes(cfg: Recipe) -> list[Shape]:
    """The shapes that are asked for, the first one's layers `bench.layers`, the others' the same share. Raises UserError."""
    bench = cfg.bench
    if not bench.formats:
        raise UserError("bench.formats=[]: nothing to build", f"expected some of: {', '.join(quantize_plan.GGUF)}")
    if len(set(bench.shapes)) != len(bench.shapes) or len(bench.shapes) > 2:
        raise UserError(f"bench.shapes={bench.shapes}", "expected one model, or two: teacher and student")
    found: list[Shape] = []
    for name in bench.shapes:
        if name not in options("model") or name == "from_hf":
            models = ", ".join(other for other in options("model") if other != "from_hf")
            raise UserError(f"bench.shapes: no model {name}", f"expected some of: {models}")
        values = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
        full = Architecture(**{key: values[key] for key in Architecture.__dataclass_fields__ if key in values})
        first = found[0].full.num_layers if found else full.num_layers
        layers = min(full.num_layers, max(1, round(bench.layers * full.num_layers / first)))
        found.append(Shape(name, full, replace(full, num_layers=layers), replace(full, num_layers=max(1, layers // 2))))
    return found


def gguf(cfg: Recipe, role: str, target: Target) -> Path:
    """The GGUF file of a role in a format. Raises UserError where it is not here."""
    key, stage = f"bench.{role}_gguf", GGUF_STAGES[role]
    given = getattr(cfg.bench, f"{role}_gguf")
    where = paths.resolve(given) if given else (paths.find(cfg, stage) or paths.run_root(cfg) / stage) / "gguf"
    found = sorted(where.glob(f"*-{target.value.upper()}.gguf")) if where.is_dir() else []
    if len(found) != 1:
        extra = [override("export.source", cfg.model.path), f"run.stage={stage}"] if role == "teacher" else []
        raise UserError(
            f"{key}: {'several' if found else 'no'} *-{target.value.upper()}.gguf in {where}",
            f"make it first:\n  {paths.command(cfg, 'quantize', *extra)}" if not found else "expected one",
        )
    return found[0]


def folder(cfg: Recipe, role: str) -> Path:
    """The Hugging Face folder of a role. Raises UserError."""
    given = getattr(cfg.bench, role)
    if role == "teacher" or given:
        return inputs.model_weights(given or cfg.model.path, f"bench.{role}" if given else "model.path")
    found = quantize_plan.source(cfg)
    weights.check(found, "bench.student")
    return found


def server(cfg: Recipe, role: str) -> str:
    """The endpoint of a role. Raises UserError."""
    url = getattr(cfg.bench, f"{role}_server").url
    if not url or not url.startswith(("http://", "https://")):
        raise UserError(
            f"bench.{role}_server.url={url}", "expected the server's address up to /v1, e.g. http://127.0.0.1:8080/v1"
        )
    return url


class PapersRow(TypedDict):
    """The paper's figures; those of both models by role."""

    device: str
    tokens_per_second: dict[str, float]
    milliseconds: dict[str, float]
    first_token_milliseconds: dict[str, float]
    speed_up: float
    bound: float


def papers_row() -> PapersRow:
    """What the paper measured, quoted: one stream in bf16 on an RTX PRO 6000 (arXiv 2603.11881)."""
    return {
        "device": devices.load(PAPER.device, "device").name,
        "tokens_per_second": dict(zip(ROLES, PAPER.tokens_per_second, strict=True)),
        "milliseconds": dict(zip(ROLES, PAPER.milliseconds, strict=True)),
        "first_token_milliseconds": dict(zip(ROLES, PAPER.first_token_milliseconds, strict=True)),
        "speed_up": PAPER.tokens_per_second[1] / PAPER.tokens_per_second[0],
        "bound": decode.speed_up(PAPER.teacher, PAPER.student, Format.bf16),
    }


def _how(cfg: Recipe) -> Table:
    bench = cfg.bench
    return Table(
        "How",
        [
            ("prompt and answer", f"{bench.prompt_tokens} and {bench.new_tokens} tokens"),
            ("sequences side by side", ", ".join(map(str, bench.concurrency))),
            ("repetitions", f"{bench.repetitions} after {bench.warmup} to warm up, the models in turns"),
        ],
    )
