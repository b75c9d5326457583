"""What a publication would hold, and whether it may be sent."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import Recipe, Target
from nemo_plugins.configs.store import CONF
from nemo_plugins.models import hf_config
from nemo_plugins.planning import bench_plan, quantize_plan
from nemo_plugins.planning.plan import Plan, Table, gib
from nemo_plugins.runs import paths
from nemo_plugins.runs.command_line import override
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.fingerprint import described, fingerprint

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
TOKEN = "HF_TOKEN"


def plan(cfg: Recipe) -> Plan:
    """Validate a publication. Raises UserError naming the key."""
    asked = cfg.publish
    if not asked.repository or not REPOSITORY.fullmatch(asked.repository):
        raise UserError(f"publish.repository={asked.repository}", "expected owner/name, as the hub has it")
    if not asked.licence or not LICENCE.fullmatch(asked.licence):
        raise UserError(
            f"publish.licence={asked.licence}",
            "expected the licence of the weights as the hub spells it, e.g. apache-2.0; "
            "it is the base model's unless that allows another",
        )
    if asked.base_model and not REPOSITORY.fullmatch(asked.base_model):
        raise UserError(f"publish.base_model={asked.base_model}", "expected owner/name of a model on the hub")
    if wrong := [target.value for target in asked.formats if target not in quantize_plan.GGUF and target is not Target.fp8]:
        raise UserError(f"publish.formats: {wrong[0]}", "expected GGUF formats and fp8")
    made = Plan(f"publish {asked.repository}" + ("" if asked.push else ": the folder is made, nothing is sent"))
    folder = made.need("earlier", quantize_plan.read, cfg)
    if folder and (seed := folder.config.get(hf_config.RANDOM)) is not None:
        raise UserError(
            f"publish: {folder.path} was made of random weights (seed {seed}), which nobody has trained",
            "expected a model that began as a trained one",
        )
    files: list[tuple] = [("weights", folder.path if folder else "not here")]
    files += [(target.value, made.need("earlier", quantised, cfg, target) or "not here") for target in asked.formats]
    if asked.push:
        made.need("token", _token)
    size = sum(file.stat().st_size for file in folder.shards) if folder else 0
    made.tables.append(Table("Holds", files, numbers=False))
    made.tables.append(
        Table(
            "Says",
            [
                ("repository", f"{asked.repository}{' (private)' if asked.private else ''}"),
                ("licence", asked.licence),
                ("base model", base_model(cfg) or "none"),
                ("weights", gib(size)),
            ],
            numbers=False,
        )
    )
    return made


def base_model(cfg: Recipe) -> str | None:
    """Hub id of what this model was made from: `publish.base_model`, else the teacher's.

    `weights/bielik11b` looks like one and is a folder: a path counts where it was fetched under that name, else what
    `conf/model/` has for the teacher.
    """
    if cfg.publish.base_model:
        return cfg.publish.base_model
    path, file = cfg.model.path, CONF / "model" / f"{cfg.model.name}.yaml"
    if not path or paths.local_weights(path) in (None, paths.resolve(path)):
        path = OmegaConf.load(file).get("path") if file.is_file() else None
    return path if path and paths.is_hub_id(path) else None


def quantised(cfg: Recipe, target: Target) -> Path:
    """A format that the run's quantisation left of the weights that are published. Raises UserError."""
    is_file = target in quantize_plan.GGUF
    found = bench_plan.gguf(cfg, "student", target) if is_file else paths.earlier(cfg, "quantize", target.value)
    source, stage = quantize_plan.source(cfg), paths.find(cfg, "quantize")
    made_here = stage if stage and stage.resolve() in found.resolve().parents else None
    read = json.loads((made_here / "summary.json").read_text())["inputs"].values() if made_here else ()
    if (now := fingerprint(source)) not in read:
        raise UserError(
            f"publish.formats: {found} was not made of {source}",
            f"its fingerprint is {now}, that of what was read {', '.join(map(described, read)) or 'not known'}",
            f"make it of these weights:\n  {paths.command(cfg, 'quantize', override('export.source', source), 'force=true')}",
        )
    return found


def _token() -> None:
    if not os.environ.get(TOKEN):
        raise UserError(f"publish.push=true: no token in {TOKEN}", f"expected a token that may write: export {TOKEN}=…")
