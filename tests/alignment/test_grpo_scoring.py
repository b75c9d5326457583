"""Rewards that do not say the same twice: a model's processes must agree on them, or their advantages differ."""

import random
from types import SimpleNamespace

import pytest
import torch
from megatron.core import parallel_state
from rank_processes import run_ranks
from torch import distributed

from nemo_plugins import runs
from nemo_plugins.alignment.grpo_rollout import RewardRollouts
from nemo_plugins.alignment.rewards.scoring import Scorer
from nemo_plugins.alignment.rollouts import Completion
from nemo_plugins.configs.schema import GrpoConfig

pytestmark = pytest.mark.nemo

JUDGE = "import random\ndef judge(prompt, completion, reference):\n    return random.random()\n"


def rollouts(folder, mix) -> RewardRollouts:
    made = object.__new__(RewardRollouts)
    made.grpo, made.seed = GrpoConfig(group_size=2, max_tokens=4), 1
    made.train = [SimpleNamespace(text="?", ids=(1, 2), reference="", kind=kind) for kind in ("talk", "talk", "talk")]
    made.prompt = lambda draw: made.train[draw]
    made.decode, made.scorer = str, Scorer(mix)
    made.engine = SimpleNamespace(complete=lambda requests: [Completion([5, 6], [-1.0, -1.0], [], True)] * len(requests))
    return made


def one_rank(rank, ranks, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=ranks)
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=ranks)
    random.seed(rank)
    judged = rollouts(folder, {"talk": {f"{folder}/judge.py:judge": 1.0}})
    rewards = [group.rewards for group in judged.groups(range(3))]
    everyone = [None] * ranks
    distributed.all_gather_object(everyone, rewards)
    assert everyone == [rewards] * ranks and len({reward for group in rewards for reward in group}) == 6
    broken = rollouts(folder, {"poem": {f"{folder}/judge.py:judge": 1.0}})
    with pytest.raises(runs.UserError, match="prompts of kind talk"):
        broken.groups(range(3))
    if rank == 0:  # the others do not score
        judged.scorer.score = None
    with pytest.raises(runs.Failed, match="not callable"):
        judged.groups(range(3))
    parallel_state.destroy_model_parallel()
    distributed.destroy_process_group()


def test_two_processes_of_a_model_have_the_same_rewards(tmp_path):
    (tmp_path / "judge.py").write_text(JUDGE)
    run_ranks(one_rank, 2, tmp_path)


def test_a_mismatch_of_the_same_weights_is_borne_for_a_while():
    """An engine that is a little off stops the run at its third rollout in a row, one that is far off at once."""
    made = object.__new__(RewardRollouts)
    made.grpo, made.mismatched = GrpoConfig(max_mismatch=0.02), 0
    made.engine = SimpleNamespace(fresh=True, on_policy=False, age=0)

    def look(apart: float) -> dict[str, float]:
        old = torch.full((2, 3), -1.0)
        answers = torch.ones(2, 3, dtype=torch.bool)
        return made.logprob_mismatch(SimpleNamespace(old=old, engine=old + apart, answers=lambda: answers))

    for apart in (0.03, 0.03, 0.0, 0.03, 0.03):
        assert look(apart)["mismatch"] == pytest.approx(apart)
    with pytest.raises(runs.Failed, match="max_mismatch"):
        look(0.03)
    made.mismatched = 0
    with pytest.raises(runs.Failed, match="max_mismatch"):
        look(0.3)
    made.mismatched, made.engine.fresh, made.engine.age = 0, False, 2
    assert [look(0.3)["staleness"] for _ in range(4)] == [2] * 4  # it is known to be older
