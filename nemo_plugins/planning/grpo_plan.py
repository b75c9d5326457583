"""What a training by rewards would do."""

from __future__ import annotations

import inspect

from nemo_plugins.alignment import rewards
from nemo_plugins.configs.schema import Engine, GroupLoss, Recipe
from nemo_plugins.data.chat import prompts
from nemo_plugins.planning import alignment_plan, rollouts, training_plan
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs.errors import UserError

WIDEST = 0.01  # of the clips of gspo, whose paper has some 1e-4; own choice


def plan(cfg: Recipe) -> Plan:
    """Validate a training by rewards. Raises UserError naming the key."""
    grpo = cfg.grpo
    at_least(1, grpo, "grpo", "prompts", "epochs", "max_tokens", "rollout_batch", "samples_every")
    if grpo.group_size < 2:
        raise UserError(
            f"grpo.group_size={grpo.group_size}: a completion is held against the others of its prompt",
            "expected 2 or more; the paper's stage does not say, 8 is the default",
        )
    _ranges(cfg)
    rows = grpo.prompts * grpo.group_size
    if rows % grpo.global_batch_size:
        raise UserError(
            f"grpo.global_batch_size={grpo.global_batch_size} does not divide a rollout's {rows} completions "
            f"({grpo.prompts} prompts x {grpo.group_size})",
            f"expected {rows}, one update a rollout, or a part of it",
        )
    if grpo.max_tokens >= grpo.seq_length:
        raise UserError(
            f"grpo.max_tokens={grpo.max_tokens}: prompt and completion together have grpo.seq_length={grpo.seq_length}",
            f"expected less than {grpo.seq_length}, e.g. grpo.max_tokens={grpo.seq_length // 2}",
        )
    check = prompts.checker(grpo.rewards, options(cfg), grpo.own_rewards)
    made, model = alignment_plan.begin(cfg, grpo, "grpo", check, "train {} by rewards that can be checked")
    # the policy and its reference score what was drawn
    training_plan.add(made, cfg, "grpo", grpo, model, passes=2, rollouts=rollouts.of(grpo, updates(cfg)))
    made.tables.insert(1, _rollouts(cfg))
    if grpo.kind is GroupLoss.gspo and updates(cfg) > 1 and max(grpo.clip_low, grpo.clip_high) > WIDEST:
        made.warnings.append(
            f"grpo.clip_low={grpo.clip_low:g}, grpo.clip_high={grpo.clip_high:g}: the ratio of a whole completion, which "
            "grpo.kind=gspo clips, hardly goes so far; its paper has 3e-4 and 4e-4"
        )
    return made


def updates(cfg: Recipe) -> int:
    """Updates of one rollout."""
    return cfg.grpo.epochs * cfg.grpo.prompts * cfg.grpo.group_size // cfg.grpo.global_batch_size


def options(cfg: Recipe) -> dict[str, dict[str, object]]:
    """The rewards' arguments; those that know languages get the run's. Raises UserError for an unknown reward or option."""
    grpo = cfg.grpo
    found = {name: dict(given) for name, given in grpo.options.items()}
    for name in {name for mix in grpo.rewards.values() for name in mix}:
        if "language" in inspect.signature(rewards.get(grpo.own_rewards.get(name, name))).parameters:
            found.setdefault(name, {}).setdefault("language", cfg.language.code)
    return found


def _ranges(cfg: Recipe) -> None:
    grpo = cfg.grpo
    wanted = {
        "temperature": (grpo.temperature > 0, "a number above 0"),
        "clip_low": (0 <= grpo.clip_low <= 1, "from 0 to 1, which is no lower bound"),
        "clip_high": (grpo.clip_high >= 0, "0 or more"),
        "kl_coef": (grpo.kl_coef >= 0, "0 or more"),
        "max_log_ratio": (0 < grpo.max_log_ratio <= 80, "above 0 and at most 80, where exp() overflows in fp32"),
        "refill": (grpo.refill >= 0, "0 or more"),
        "max_mismatch": (grpo.max_mismatch > 0, "a number above 0"),
        "top_p": (grpo.top_p == 1, "1: what top-p cuts off has probability 0 where it is drawn and not where it is learned"),
    }
    for name, (fine, what) in wanted.items():
        if not fine:
            raise UserError(f"grpo.{name}={getattr(grpo, name):g}: expected {what}")
    if grpo.spike is not None:
        raise UserError(
            f"grpo.spike={grpo.spike:g}: this loss lies around 0 with either sign, so that times its median means nothing",
            "expected null; grpo.clip_grad bounds an update, and docs/grpo.md says what a collapse looks like",
        )
    end = grpo.endpoint
    if grpo.engine is Engine.endpoint:
        if not end.url:
            raise UserError("grpo.engine=endpoint: grpo.endpoint.url is not given", "expected e.g. http://node7:8000/v1")
        if end.refresh_every < 1 or end.requests < 1 or not end.cap >= 1:
            raise UserError("grpo.endpoint: expected refresh_every and requests of at least 1, and a cap of at least 1")


def _rollouts(cfg: Recipe) -> Table:
    grpo, engine = cfg.grpo, cfg.grpo.engine.value
    if grpo.engine is Engine.endpoint:
        by = "grpo.endpoint.refresh" if grpo.endpoint.refresh else "vLLM's own requests"
        engine += (
            f" {grpo.endpoint.url}, its weights at most {(grpo.endpoint.refresh_every - 1) * updates(cfg)} updates old, by {by}"
        )
    return Table(
        "Rollouts",
        [
            ("engine", engine),
            ("prompts", f"{grpo.prompts:,} x {grpo.group_size} completions of at most {grpo.max_tokens:,} tokens"),
            ("updates", f"{updates(cfg):,} a rollout, {grpo.global_batch_size:,} completions each"),
            ("loss", f"{grpo.kind}, clip {grpo.clip_low:g} / {grpo.clip_high:g}, KL {grpo.kl_coef:g}"),
            ("rewards", "; ".join(f"{kind}: {', '.join(map(str, mix))}" for kind, mix in grpo.rewards.items())),
        ],
    )
