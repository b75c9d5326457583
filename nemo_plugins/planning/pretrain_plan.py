"""What pretraining would do."""

from __future__ import annotations

from nemo_plugins.configs.schema import Recipe, TrainConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, memory, tables
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError


def plan(cfg: Recipe) -> Plan:
    """Validate a pretraining. Raises UserError naming the key."""
    pretrain = cfg.pretrain
    for key, value in vars(pretrain.sizes).items():
        if value is not None and value < 1:
            raise UserError(f"pretrain.sizes.{key}={value}: expected at least 1")
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
    made.need("weights", lambda: _tokenizer(cfg))

    on_gpu = checks.on_gpu(cfg)
    width = checks.bytes_per_value(cfg)
    folder = paths.run_root(cfg) / (cfg.run.stage or "pretrain")
    files = {
        f"steps ({pretrain.keep_checkpoints} kept)": (pretrain.keep_checkpoints + 1)
        * memory.checkpoint(model, width, optimizer=True),
        "checkpoint": memory.checkpoint(model, width, optimizer=False),
    }
    made.need("disk", lambda: checks.disk(folder, sum(files.values())))
    made.tables += [
        tables.sizes(model, None, ("model", "")),
        schedule(pretrain, model),
        tables.memory(made, memory.training(model, pretrain, cfg.platform, width), cfg.platform, on_gpu),
        tables.writes(folder, files),
    ]
    tokens = pretrain.max_steps * pretrain.global_batch_size * pretrain.seq_length
    made.sizes = f"{model.parameters():,} parameters; {pretrain.max_steps:,} steps, {tokens:,} tokens"
    return made


def schedule(train: TrainConfig, model: Architecture, teacher: Architecture | None = None) -> Table:
    """Steps, tokens, learning rate and arithmetic of a training."""
    tokens = train.max_steps * train.global_batch_size * train.seq_length
    flops = 3 * model.flops_per_token(train.seq_length) + (teacher.flops_per_token(train.seq_length) if teacher else 0)
    return Table(
        "Training",
        [
            ("steps", f"{train.max_steps:,} ({train.warmup_steps:,} of warm-up)"),
            (
                "batch",
                f"{train.global_batch_size:,} sequences of {train.seq_length:,} tokens, {train.micro_batch_size} at a time",
            ),
            ("tokens", f"{tokens:,}"),
            ("learning rate", f"{train.lr:g} to {train.min_lr:g}, cosine"),
            ("arithmetic", f"{flops * tokens:.3g} FLOP"),
            ("checkpoint", f"every {train.checkpoint_every:,} steps, {train.keep_checkpoints} kept"),
            ("text", ", ".join(train.data) or "not named"),
        ],
    )


def _tokenizer(cfg: Recipe) -> None:
    """Training from random weights wants the model's tokenizer, not its weights."""
    if not cfg.model.path:
        raise UserError("model.path is not given", "expected the folder that holds the tokenizer")
    folder = paths.local_weights(cfg.model.path)
    if folder is None:
        raise UserError(paths.weights_missing("model.path", cfg.model.path))
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"model.path: {folder} has no tokenizer.json", "expected the model's tokenizer")
