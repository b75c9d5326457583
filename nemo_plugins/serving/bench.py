"""`recipes/bench.py`: teacher against student on the same prompts, held against the bytes that a token moves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import Backend, Recipe, Target
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import bench_plan, checks, decode
from nemo_plugins.planning.bench_plan import ROLES, Shape
from nemo_plugins.runs.folder import write
from nemo_plugins.serving import random_gguf, timing
from nemo_plugins.serving.timing import Process, Spread

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
FIELDS = ("first", "each", "tokens_per_second")


def run(cfg: Recipe, run: runs.Run) -> None:
    """Time everything that is asked for; write rows, table and picture."""
    rows = _shapes(cfg, run) if cfg.bench.shapes else _models(cfg, run)
    from nemo_plugins.reporting import bench_report

    names = cfg.bench.shapes or list(ROLES)
    files = bench_report.write(cfg, run.folder, rows, names)
    first, last = bench_report.pair(rows, rows[0], names)
    run.finish(
        outputs=files,
        next=runs.command(cfg, "report"),
        metrics={
            "tokens_per_second": last["tokens_per_second"]["median"],
            "time_to_first_token": last["first"]["median"],
            "speed_up": bench_report.speed_up(first, last),
            "decode_speed_up": bench_report.decode_speed_up(first, last),
            "bound": first["bytes_moved"] / last["bytes_moved"] if first["bytes_moved"] else None,
        },
        tokens_per_second=last["tokens_per_second"]["median"],
        time_to_first_token=last["first"]["median"],
        rows=rows,
        paper=bench_plan.papers_row(),
        energy="read" if timing.energy() is not None else "no counter can be read on this machine",
    )


def _models(cfg: Recipe, run: runs.Run) -> list[dict]:
    bench = cfg.bench
    cases = [
        (backend, target)
        for backend in bench.backends
        for target in (bench.formats if backend is Backend.llama_cpp else (None,))
    ]
    rows: list[dict] = []
    for number, (backend, target) in enumerate(cases, 1):
        note = run.folder / f"{backend.value}{f'-{target.value}' if target else ''}.json"
        where = {role: _where(cfg, role, backend, target) for role in ROLES}
        for path in where.values() if backend is not Backend.endpoint else ():
            run.input(path, kept=True)
        if not note.is_file():
            write(note, json.dumps(_case(cfg, run.folder, backend, target, where), indent=1) + "\n")
        mine = json.loads(note.read_text())
        rows += mine
        runs.say(f"[{number}/{len(cases)}] {line(rows, backend.value, mine[0]['format'])}")
    return rows


def _where(cfg: Recipe, role: str, backend: Backend, target: Target | None) -> str:
    if target:
        return str(bench_plan.gguf(cfg, role, target))
    return bench_plan.server(cfg, role) if backend is Backend.endpoint else str(bench_plan.folder(cfg, role))


def _case(cfg: Recipe, folder: Path, backend: Backend, target: Target | None, where: dict[str, str]) -> list[dict]:
    bench = cfg.bench
    asked = {"backend": backend.value, "context": bench.prompt_tokens + bench.new_tokens, "sequences": max(bench.concurrency)}
    asked["threads"] = runs.threads(cfg)
    form, dtype = target.value if target else "", None
    if backend is Backend.transformers:  # one type for both, however their folders are written
        dtype = compute_dtype(where["teacher"])
        asked["dtype"], form = dtype, SHORT.get(dtype, dtype)
    models: dict[str, Process] = {}
    try:
        for role, path in where.items():
            named = {"model": getattr(bench, f"{role}_server").model} if backend is Backend.endpoint else {}
            models[role] = Process({**asked, "path": path, **named}, folder / "log.txt")
        sizes = {role: _bytes(backend, path, dtype) for role, path in where.items()}
        return _rows(cfg, models, {"backend": backend.value, "format": form}, where, sizes)
    finally:
        for model in models.values():
            model.close()


def _rows(
    cfg: Recipe,
    models: dict[str, Process],
    case: dict,
    where: dict[str, str],
    sizes: dict[str, tuple[int, int, Architecture | None]],
) -> list[dict]:
    """A row of each model at each number of sequences."""
    bench, rows = cfg.bench, []
    for sequences in bench.concurrency:
        timed = timing.in_turns(
            models,
            sequences=sequences,
            prompt_tokens=bench.prompt_tokens,
            new_tokens=bench.new_tokens,
            warmup=bench.warmup,
            repetitions=bench.repetitions,
        )
        for role, onces in timed.items():
            weights, width, architecture = sizes[role]
            tokens = sequences * (bench.prompt_tokens + bench.new_tokens // 2)
            cache = architecture.kv_cache_bytes(tokens, width) if architecture else 0
            joules = [once.joules for once in onces if once.joules is not None]
            rows.append(
                {
                    **case,
                    "model": role,
                    "path": where[role],
                    "sequences": sequences,
                    "new_tokens": bench.new_tokens,
                    **{name: asdict(Spread.of([getattr(once, name) for once in onces])) for name in FIELDS},
                    "repetitions": len(onces),
                    "bytes_moved": weights + cache if weights else 0,
                    "peak_bytes": models[role].peak_bytes,
                    "joules_per_token": Spread.of(joules).median / (sequences * bench.new_tokens) if joules else None,
                    "extrapolated": False,
                }
            )
    return rows


def compute_dtype(path: str) -> str:
    """Type in which transformers computes with a folder: its own on a GPU, fp32 on a CPU."""
    return runs.hf_dtype(path) if checks.has_gpu() else "float32"


def _bytes(backend: Backend, path: str, dtype: str | None = None) -> tuple[int, int, Architecture | None]:
    """Bytes of weights that a token reads, of a key or value, and the sizes; 0 of a server, which does not say.

    Args:
        dtype: in which transformers computes, where it is not the folder's own.
    """
    if backend is Backend.endpoint:
        return 0, 0, None
    if backend is Backend.llama_cpp:
        import gguf

        reader = gguf.GGUFReader(path)
        tensors = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
        weights = sum(tensors.values()) - (tensors[EMBEDDING] if OUTPUT in tensors else 0)
        return weights, decode.CACHE_BYTES, gguf_architecture(reader)
    architecture = Architecture.from_hf(json.loads((Path(path) / "config.json").read_text()))
    skipped = 0 if architecture.tied_embeddings else architecture.embedding_parameters
    width = 4 if (dtype or compute_dtype(path)) == "float32" else 2
    return width * (architecture.parameters() - skipped), width, architecture


def gguf_architecture(reader) -> Architecture:
    """The sizes in a GGUF file's header."""
    kind = reader.fields["general.architecture"].contents()

    def number(key: str) -> int:
        return int(reader.fields[f"{kind}.{key}"].contents())

    heads, hidden = number("attention.head_count"), number("embedding_length")
    vocabulary = next(tensor for tensor in reader.tensors if tensor.name == EMBEDDING)
    return Architecture(
        number("block_count"),
        hidden,
        number("feed_forward_length"),
        heads,
        number("attention.head_count_kv"),
        number("attention.key_length") if f"{kind}.attention.key_length" in reader.fields else hidden // heads,
        int(vocabulary.shape[1]),
        tied_embeddings=all(tensor.name != OUTPUT for tensor in reader.tensors),
    )


def _shapes(cfg: Recipe, run: runs.Run) -> list[dict]:
    """Random weights of the shapes; the rows of whole models are extrapolated and marked."""
    shapes, rows = bench_plan.shapes(cfg), []
    context = cfg.bench.prompt_tokens + cfg.bench.new_tokens // 2
    for number, target in enumerate(cfg.bench.formats, 1):
        measured = {}
        for size in ("built", "half"):
            note = run.folder / f"{target.value}-{size}.json"
            if not note.is_file():
                write(note, json.dumps(_shapes_case(cfg, run.folder, shapes, target, size), indent=1) + "\n")
            measured[size] = json.loads(note.read_text())
        by_name = {shape.name: shape for shape in shapes}
        rows += [
            extrapolated(by_name[large["model"]], target, large, small, context)
            for large, small in zip(measured["built"], measured["half"], strict=True)
        ]
        rows += [*measured["built"], *measured["half"]]
        runs.say(f"[{number}/{len(cfg.bench.formats)}] {line(rows, Backend.llama_cpp.value, target.value)}")
    return rows


def _shapes_case(cfg: Recipe, folder: Path, shapes: list[Shape], target: Target, size: str) -> list[dict]:
    """All shapes with as many layers as `size` (a field of `Shape`) has, timed in turns."""
    bench, files = cfg.bench, []
    case = {"backend": Backend.llama_cpp.value, "format": target.value}
    models: dict[str, Process] = {}
    sizes: dict[str, tuple[int, int, Architecture | None]] = {}
    try:
        for shape in shapes:
            file = folder / f".random-{shape.name}.gguf"
            files.append(file)
            model = getattr(shape, size)
            random_gguf.write(file, model, target, cfg.run.seed)
            asked = {"backend": "llama_cpp", "path": str(file), "context": bench.prompt_tokens + bench.new_tokens}
            asked |= {"sequences": max(bench.concurrency), "threads": runs.threads(cfg)}
            models[shape.name] = Process(asked, folder / "log.txt")
            sizes[shape.name] = (random_gguf.bytes_per_token(model, target), decode.CACHE_BYTES, model)
        where = {shape.name: f"random weights, {getattr(shape, size).num_layers} layers" for shape in shapes}
        return _rows(cfg, models, case, where, sizes)
    finally:
        for model in models.values():
            model.close()
        for file in files:
            file.unlink(missing_ok=True)


def extrapolated(shape: Shape, target: Target, large: dict, small: dict, context: int) -> dict:
    """A whole model's row from two sizes of it: what a token takes is a line over the bytes that it moves.

    The quartiles are the line's through opposite quartiles of both sizes, the widest that they allow. A whole model takes no
    less time than the larger part of it.
    """
    tokens = large["sequences"] * context
    moved = random_gguf.bytes_per_token(shape.full, target) + shape.full.kv_cache_bytes(tokens, decode.CACHE_BYTES)
    row = {**large, "path": f"random weights, {shape.full.num_layers} layers", "bytes_moved": moved, "extrapolated": True}
    row |= {"peak_bytes": {}, "joules_per_token": None}
    share = (moved - small["bytes_moved"]) / max(1, large["bytes_moved"] - small["bytes_moved"])
    for name in ("first", "each"):
        row[name] = {
            part: max(large[name][part], small[name][other] + share * (large[name][part] - small[name][other]))
            for part, other in (("median", "median"), ("low", "high"), ("high", "low"))
        }
    new = large["new_tokens"]
    for part, other in (("median", "median"), ("low", "high"), ("high", "low")):  # the quickest where the time is least
        took = row["first"][other] + (new - 1) * row["each"][other]
        row["tokens_per_second"] = {**row["tokens_per_second"], part: large["sequences"] * new / took}
    return row


def line(rows: list[dict], backend: str, form: str) -> str:
    """What a case came to, one sequence."""
    mine = [row for row in rows if row["backend"] == backend and row["format"] == form]
    least = min(row["sequences"] for row in mine)
    seen: dict[str, dict] = {}
    for row in mine:
        if row["sequences"] == least:
            seen.setdefault(row["model"], row)
    said = [f"{name} {row['tokens_per_second']['median']:,.4g} tokens/s" for name, row in seen.items()]
    if len(seen) == 2:
        first, last = seen.values()
        rate = last["tokens_per_second"]["median"] / first["tokens_per_second"]["median"]
        said[-1] += f" (x{rate:.3f})"
        said.append(f"a token x{first['each']['median'] / last['each']['median']:.3f}")
        if first["bytes_moved"]:
            said[-1] += f", by bytes x{first['bytes_moved'] / last['bytes_moved']:.3f}"
    return f"{backend} {form}: {', '.join(said)}".replace(" :", ":")
