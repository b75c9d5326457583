"""What a conversion would do."""

from __future__ import annotations

from pathlib import Path

from nemo_plugins.configs.schema import ModelConfig, Recipe
from nemo_plugins.models import hf_config
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, hf_folder, inputs, memory, pace, tables, vocabulary_plan, weights
from nemo_plugins.planning.plan import Cost, Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import Unusable, UserError

TO = ("nemo", "hf")
STAND_IN = "assets/tiny_pl"  # whose tokenizer a random model has where its own is not here
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"} | {name: name for name in hf_config.DTYPES}
WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes a value


def stage(cfg: Recipe) -> str:
    """Folder of a conversion that is not given one."""
    if cfg.convert.tokenizer:
        return vocabulary_plan.STAGE
    return "convert-export" if cfg.convert.to == "hf" else "convert-import"


def plan(cfg: Recipe) -> Plan:
    """Validate a conversion. Raises UserError naming the key."""
    convert = cfg.convert
    if convert.random and (convert.source or convert.tokenizer):
        given = "source" if convert.source else "tokenizer"
        raise UserError(
            f"convert.random=true and convert.{given} are both given", "expected either: random weights are made, not converted"
        )
    if convert.tokenizer:
        return vocabulary_plan.plan(cfg)
    if convert.to not in TO:
        raise UserError(f"convert.to={convert.to}: expected {' or '.join(TO)}")
    if convert.dtype not in (None, *DTYPES):
        raise UserError(f"convert.dtype={convert.dtype}: expected bf16, fp16, fp32, or null for the teacher's")
    model, exports = Architecture.from_config(cfg.model), convert.to == "hf"
    made = Plan(f"convert {cfg.model.name} to {'Hugging Face' if exports else 'NeMo'}")
    checks.single_process(cfg.platform, "a conversion")
    source = convert.source or ("the run's newest checkpoint" if exports else cfg.model.path)
    random = bool(convert.random) and not exports
    if random:
        described = tokenizer(cfg.model)
        written, source = dtype(cfg, described), f"random weights, seed {cfg.run.seed}; tokenizer of {described}"
        made.warnings.append("convert.random=true: nobody has trained these weights; they are for measuring speed and memory")
    elif exports:
        checkpoint = made.need("earlier", checkpoint_of, cfg)
        written = dtype(cfg, (checkpoint and paths.description(checkpoint)) or paths.local_weights(cfg.model.path or ""))
    else:
        written = dtype(cfg, inputs.source(made, cfg))
    width = WIDTH[written]
    folder = paths.run_root(cfg) / (cfg.run.stage or stage(cfg))
    left = ("hf",) if exports else ("hf", "checkpoint") if random else ("checkpoint",)
    files = dict.fromkeys(left, model.parameters() * width)
    need = memory.conversion(model, width) + memory.CONVERSION_PROCESS
    checks.room(made, cfg, folder, sum(files.values()))
    made.need("memory", checks.host_memory, need, f"converting {cfg.model.name}")
    made.tables += [
        tables.sizes(model, None, ("model, at most" if exports else "model", "")),
        Table(
            "Conversion",
            [
                ("from", str(source)),
                ("written in", written),
                ("memory of this machine", f"{tables.gib(need)} (both copies, and NeMo itself)"),
            ],
        ),
        tables.writes(folder, files),
    ]
    made.seconds = pace.conversion(sum(files.values()))
    on_gpu = checks.on_gpu(cfg)
    made.cost = Cost(need, checks.host_room(cfg), int(on_gpu), made.seconds / 3600, on_host=on_gpu)
    made.tables.append(pace.table(made.seconds, cfg))
    made.sizes = f"to {'Hugging Face' if exports else 'NeMo'}"
    return made


def checkpoint_of(cfg: Recipe) -> Path:
    """The NeMo checkpoint that is exported: `convert.source`, else the newest of the run. Raises UserError: neither is here."""
    if not cfg.convert.source:
        return paths.newest_checkpoint(cfg)
    return paths.checkpoint("convert.source", cfg.convert.source)


def tokenizer(model: ModelConfig) -> Path:
    """The folder with the tokenizer of a random model: the model's own where it is here, else the bundled one, which stands in.

    Raises:
        UserError: it makes ids that the model has no embedding of.
    """
    own = paths.local_weights(model.path) if model.path else None
    folder = own if own and any((own / name).is_file() for name in weights.TOKENIZERS) else paths.resolve(STAND_IN)
    tokens = hf_folder.vocabulary(folder, "convert.random")
    if tokens > model.vocab_size:
        raise UserError(
            f"convert.random=true: the tokenizer of {folder} makes {tokens:,} ids, model.vocab_size is {model.vocab_size:,}",
            "expected at least as many; model.path names the folder of another tokenizer, which needs no weights",
        )
    return folder


def dtype(cfg: Recipe, described: Path | None) -> str:
    """Type that a conversion writes.

    Args:
        described: the teacher's Hugging Face folder, or its description in a checkpoint; None: not here, taken for bf16.
    Raises:
        Unusable: its `config.json` says a type that no weights have.
    """
    if cfg.convert.dtype:
        return DTYPES[cfg.convert.dtype]
    if described is None or not (described / "config.json").is_file():
        return DTYPES["bf16"]
    try:
        return paths.hf_dtype(described)
    except ValueError as error:
        raise Unusable(f"{described / 'config.json'}: {error}") from None
