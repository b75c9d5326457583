"""What a conversion would do."""

from __future__ import annotations

from pathlib import Path

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, memory, tables, vocabulary_plan
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

TO = ("nemo", "hf")
DTYPES = (None, "bfloat16", "float32")


def stage(cfg: Recipe) -> str:
    """Folder of a conversion that is not given one."""
    if cfg.convert.tokenizer:
        return vocabulary_plan.STAGE
    return "convert-export" if cfg.convert.to == "hf" else "convert-import"


def plan(cfg: Recipe) -> Plan:
    """Validate a conversion. Raises UserError naming the key."""
    convert = cfg.convert
    if convert.tokenizer:
        return vocabulary_plan.plan(cfg)
    if convert.to not in TO:
        raise UserError(f"convert.to={convert.to}: expected {' or '.join(TO)}")
    if convert.dtype not in DTYPES:
        raise UserError(f"convert.dtype={convert.dtype}: expected bfloat16, float32 or null")
    model, exports = Architecture.from_config(cfg.model), convert.to == "hf"
    made = Plan(f"convert {cfg.model.name} to {'Hugging Face' if exports else 'NeMo'}")
    checks.single_process(cfg.platform, "a conversion")
    source = convert.source or ("the run's newest checkpoint" if exports else cfg.model.path)
    if exports:
        made.need("earlier", lambda: _checkpoint(cfg))
    else:
        checks.source(made, cfg)
    width = 4 if convert.dtype == "float32" else 2
    folder = paths.run_root(cfg) / (cfg.run.stage or stage(cfg))
    files = {"hf" if exports else "checkpoint": model.parameters() * width}
    need = memory.conversion(model, width)
    checks.room(made, cfg, folder, sum(files.values()))
    made.need("memory", lambda: checks.host_memory(need, f"converting {cfg.model.name}"))
    made.tables += [
        tables.sizes(model, None, ("model, at most" if exports else "model", "")),
        Table("Conversion", [("from", str(source)), ("memory of this machine", tables.gib(need) + " (both copies)")]),
        tables.writes(folder, files),
    ]
    made.sizes = f"from {source}"
    return made


def _checkpoint(cfg: Recipe) -> Path:
    if not cfg.convert.source:
        return paths.newest_checkpoint(cfg)
    folder = paths.resolve(cfg.convert.source)
    if not folder.is_dir():
        raise UserError(f"convert.source: no folder {cfg.convert.source}", "expected a NeMo checkpoint")
    return folder
