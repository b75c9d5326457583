"""What a search would do."""

from __future__ import annotations

import dataclasses
from typing import Any

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import candidates, prune_plan
from nemo_plugins.planning.candidates import Candidate
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table, count


def plan(cfg: Recipe) -> Plan:
    """Validate a search. Raises UserError naming the key."""
    teacher, choice = Architecture.from_config(cfg.model), candidates.choose(cfg)
    part = candidates.share(cfg)
    at_least(0, cfg.search, "search", "distill_steps")
    first = choice.candidates[0]
    names = ("num_layers", "ffn_hidden_size", "hidden_size", "num_attention_heads", "drop_layers")
    sizes: dict[str, Any] = dict.fromkeys(names)
    as_pruning = dataclasses.replace(cfg.prune, **{**sizes, **first.sizes(teacher), "compensate": False})
    made = prune_plan.plan(dataclasses.replace(cfg, prune=as_pruning))  # teacher, text, parallelism and memory are the same
    made.title = f"search {cfg.model.name}: {len(choice.candidates)} candidates from one calibration"
    if part:
        made.title += f", part {part[0]} of {part[1]}: {len(candidates.mine(cfg, choice.candidates))}"
    rows = [_row(candidate, teacher) for candidate in choice.candidates]
    table = Table("Candidates", rows, ["", "layers", "FFN", "hidden", "heads", "parameters", "one embedding", "change"])
    thrown = [(reason, f"{number:,}") for reason, number in choice.thrown_out.items() if number]
    kept = [part for part in made.tables if part.title != "Sizes" and not part.title.startswith("Would write")]
    made.tables = [table, *([Table("Thrown out by arithmetic", thrown)] if thrown else []), *kept]
    if cfg.prune.compensate:
        made.warnings.append("prune.compensate=true: candidates are ranked without it, and pruned with it to be distilled")
    short = cfg.search.distill_steps
    distilled = f"; the best {cfg.search.keep} distilled for {short} steps" if short else ""
    made.sizes = f"{len(choice.candidates)} candidates{distilled}"
    return made


def _row(candidate: Candidate, teacher: Architecture) -> tuple:
    student = candidate.student
    sizes = (student.num_layers, student.ffn_hidden_size, student.hidden_size, student.num_attention_heads)
    return (
        candidate.name,
        *(f"{value:,}" for value in sizes),
        count(student.parameters()),
        count(student.parameters("paper")),
        f"{student.parameters() / teacher.parameters() - 1:+.1%}",
    )
