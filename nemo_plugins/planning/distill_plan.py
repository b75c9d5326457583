"""What distillation would do."""

from __future__ import annotations

import dataclasses

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import PruneConfig, Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, training_plan
from nemo_plugins.planning.plan import Plan
from nemo_plugins.runs import paths


def plan(cfg: Recipe) -> Plan:
    """Validate a distillation. Raises UserError naming the key."""
    teacher, student = Architecture.from_config(cfg.model), _student(cfg)
    distill = cfg.distill
    made = Plan(f"distill {cfg.model.name} into {student.num_layers} layers, FFN {student.ffn_hidden_size}")
    checks.distillation_loss(distill)
    checks.platform(made, cfg.platform, {"teacher": teacher, "student": student})
    checks.training(made, distill, "distill", cfg)
    made.need("teacher", lambda: checks.teacher(cfg))
    made.need("earlier", lambda: paths.student(cfg))

    training_plan.add(made, cfg, "distill", distill, student, teacher)
    made.sizes = f"{distill.max_steps:,} steps, {training_plan.tokens(distill):,} tokens"
    return made


def _student(cfg: Recipe) -> Architecture:
    """The student that the run's prune stage made, else the one that this configuration would prune to."""
    folder = paths.find(cfg, "prune")
    if folder and (folder / "config.yaml").is_file() and not cfg.student.path:
        pruned = OmegaConf.merge(OmegaConf.structured(PruneConfig), OmegaConf.load(folder / "config.yaml").prune)
        return checks.student(dataclasses.replace(cfg, prune=OmegaConf.to_object(pruned)))
    return checks.student(cfg)
