"""What a training by rewards refuses before anything heavy is loaded."""

import json

import pytest

from nemo_plugins.planning import grpo_plan
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose


def plan(*overrides: str):
    return grpo_plan.plan(compose(["+model=tiny_pl", "experiment=laptop", *overrides]))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("grpo.group_size=1", "group_size=1: a completion is held against the others"),
        ("grpo.global_batch_size=100", "does not divide a rollout's 128 completions"),
        ("grpo.max_tokens=192", "prompt and completion together"),
        ("grpo.top_p=0.9", "probability 0 where it is drawn"),
        ("grpo.temperature=0", "temperature=0"),
        ("grpo.clip_low=1.1", "clip_low=1.1"),
        ("grpo.kl_coef=-1", "kl_coef=-1"),
        ("grpo.max_mismatch=0", "max_mismatch=0"),
        ("+grpo.rewards.boxed_math.boxed_maths=1.0", "reward 'boxed_maths' is not there"),
        ("+grpo.own_rewards.boxed_math=no_file.py:f", "no_file.py is not there"),
        ("+grpo.options.boxed_math.languages=pl", "boxed_math"),
        ("platform.context_parallel=2", "context_parallel=2"),
        ("grpo.engine=endpoint", "endpoint.url is not given"),
    ],
)
def test_a_mistake_is_named(override, says):
    with pytest.raises(UserError) as refused:
        plan(override)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("refresh", "by"), [("", "by vLLM's own requests"), ("grpo.endpoint.refresh=true", "by grpo.endpoint.refresh")]
)
def test_the_plan_says_how_old_a_servers_weights_get(refresh, by):
    end = ("grpo.engine=endpoint", "grpo.endpoint.url=http://node7:8000/v1", "grpo.endpoint.refresh_every=4")
    made = plan(*end, "grpo.global_batch_size=64", *filter(None, [refresh]))
    rollouts = next(dict(table.rows) for table in made.tables if table.title == "Rollouts")
    assert rollouts["engine"] == f"endpoint http://node7:8000/v1, its weights at most 6 updates old, {by}"


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        (("grpo.kind=gspo", "grpo.epochs=2"), True),
        (("grpo.kind=gspo", "grpo.epochs=2", "grpo.clip_low=3e-4", "grpo.clip_high=4e-4"), False),
        (("grpo.kind=gspo", "grpo.global_batch_size=128"), False),  # one update a rollout: no ratio to clip
        (("grpo.kind=dapo", "grpo.epochs=2"), False),
    ],
)
def test_a_tokens_clips_are_not_a_completions(overrides, warned):
    assert any("3e-4 and 4e-4" in warning for warning in plan(*overrides).warnings) is warned


def test_rewards_speak_the_runs_language():
    cfg = compose(["+model=tiny_pl", "experiment=laptop", "language=cs"])
    found = grpo_plan.options(cfg)
    assert found == {
        "boxed_math": {"language": "cs"},
        "multiple_choice": {"language": "cs"},
        "boxed_format": {"language": "cs"},
    }
    cfg.grpo.options = {"multiple_choice": {"language": "hu"}}
    assert grpo_plan.options(cfg)["multiple_choice"] == {"language": "hu"}


def test_prompts_without_a_reference_are_refused_where_that_is_asked_for(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "2 + 2?"}], "kind": "boxed_math"}) + "\n")
    made = plan(f"grpo.data=[{file}]", "grpo.bad_rows=error")
    assert any("reference" in missing.text for missing in made.missing)


def test_updates_of_a_rollout():
    cfg = compose(["+model=tiny_pl", "experiment=laptop", "grpo.epochs=2"])
    assert grpo_plan.updates(cfg) == 2 * 32 * 8 // 128
