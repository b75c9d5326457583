"""What pretraining would do."""

from __future__ import annotations

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, inputs, training_plan
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError


def stage(cfg: Recipe) -> str:
    """Folder of the stage where `run.stage` names none."""
    return paths.CORRECTED if cfg.pretrain.from_teacher else "pretrain"


def plan(cfg: Recipe) -> Plan:
    """Validate a pretraining. Raises UserError naming the key."""
    pretrain = cfg.pretrain
    at_least(1, pretrain.sizes, "pretrain.sizes", *vars(pretrain.sizes))
    for key, value in vars(pretrain.sizes).items():
        if value is not None and pretrain.from_teacher:
            raise UserError(
                f"pretrain.sizes.{key}={value}: pretrain.from_teacher goes on with the teacher's weights",
                "expected none of pretrain.sizes",
            )
    model = Architecture.from_config(cfg.model).with_sizes(pretrain.sizes)
    if model.num_attention_heads % model.num_query_groups:
        raise UserError(
            f"pretrain.sizes: {model.num_attention_heads} heads cannot be shared out to {model.num_query_groups} query groups",
            "expected num_attention_heads to be a multiple of num_query_groups",
        )
    made = Plan(
        f"pretrain {cfg.model.name}: {model.num_layers} layers, hidden {model.hidden_size}, FFN {model.ffn_hidden_size}"
    )
    checks.platform(made, cfg.platform, {"model": model})
    checks.training(made, pretrain, "pretrain", cfg)
    if pretrain.from_teacher:
        made.need("teacher", inputs.teacher, cfg)
    else:
        made.need("weights", _tokenizer, cfg)
    training_plan.add(made, cfg, "pretrain", pretrain, model)
    return made


def _tokenizer(cfg: Recipe) -> None:
    """Training from random weights wants the model's tokenizer, not its weights."""
    if not cfg.model.path:
        raise UserError("model.path is not given", "expected the folder that holds the tokenizer")
    folder = paths.weights_of(cfg.model.path, "model.path")
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"model.path: {folder} has no tokenizer.json", "expected the model's tokenizer")
