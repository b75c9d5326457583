"""Completions on their way to the trainer."""

import dataclasses

import numpy as np
import pytest
import torch

from nemo_plugins.alignment.grpo_batch import HeldoutReward, Rollout, Rows, pack, row
from nemo_plugins.alignment.rollouts import Completion
from nemo_plugins.configs.schema import GroupLoss, GrpoConfig

PAD = 9


@pytest.fixture
def rollout() -> Rollout:
    prompts = [(1, 2, 3), (1, 2, 3), (1, 4), (1, 4)]
    made = [
        Completion([5, 8], [-0.1, -0.2], [], True),
        Completion([6], [-0.3], [], False),
        Completion([7, 7, 7, 8], [-0.4, -0.5, -0.6, -0.7], [], True),
        Completion([8], [-0.8], [], True),
    ]
    rollout = pack(prompts, made, PAD, following=2)
    rollout.advantages = torch.tensor([1.0, -1.0, 0.5, -0.5])
    rollout.learned = torch.tensor([1.0, 0.0, 1.0, 1.0])
    return rollout


def test_a_label_is_an_answer_exactly_where_a_token_was_drawn(rollout):
    labels = rollout.tokens[:, 1:]
    drawn = [labels[i][rollout.answers()[i]].tolist() for i in range(4)]
    assert drawn == [[5, 8], [6], [7, 7, 7, 8], [8]]
    assert rollout.engine[rollout.answers()].tolist() == pytest.approx([-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -0.8])
    assert not rollout.engine[~rollout.answers()].any()


def test_what_is_padded_counts_nowhere(rollout):
    rows = Rows(64, 4, 4, 1, 0, PAD, 8)
    batch = rows.collate_fn([row(rollout, i) for i in (0, 1, 2)])
    assert batch["tokens"].shape == (3, 8)
    assert batch["tokens"][0].tolist() == [1, 2, 3, 5, PAD, PAD, PAD, PAD]
    assert batch["labels"][0].tolist() == [2, 3, 5, 8, PAD, PAD, PAD, PAD]
    assert batch["answer_mask"].sum(-1).tolist() == [2, 1, 4]
    assert batch["loss_mask"].sum(-1).tolist() == [2, 0, 4]  # the second is not learned from
    assert batch["advantages"].tolist() == [1.0, -1.0, 0.5]


def test_every_epoch_learns_from_every_completion_once(rollout):
    rows = Rows(1000, 4, 2, 3, 5, PAD, 8)
    rows.rollout, rows.number = rollout, 0
    orders = [[rows[epoch * 4 + i]["advantages"].item() for i in range(4)] for epoch in range(3)]
    assert all(sorted(order) == [-1.0, -0.5, 0.5, 1.0] for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    with pytest.raises(RuntimeError, match="rollout 1"):
        rows[12]  # of the next rollout, which is not here yet


def test_a_file_gives_back_what_was_written(rollout, tmp_path):
    path = tmp_path / "rollouts" / "rollout=000000.safetensors"
    rollout.save(path)
    read = Rollout.load(path)
    for field in dataclasses.fields(Rollout):
        assert torch.equal(getattr(read, field.name), getattr(rollout, field.name)), field.name
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.nemo
def test_a_validation_tells_the_reward_as_a_loss(rollout):
    from nemo_plugins.alignment.grpo import measure

    told = HeldoutReward(Rows(64, 6, 6, 1, 0, PAD, 8))
    told.reward = 0.25
    batch = told.collate_fn([told[i] for i in range(6)])
    total, count, watched = measure(GrpoConfig(max_tokens=4))(batch, torch.zeros(6, 8))
    assert float(total / count) == pytest.approx(0.75) and float(watched["learned_reward"] / count) == pytest.approx(0.25)


@pytest.mark.nemo
@pytest.mark.parametrize("kind", GroupLoss)
@pytest.mark.parametrize("size", [4, 2])
def test_micro_batches_add_up_to_the_loss_of_the_update(rollout, kind, size):
    """However an update is split over micro-batches and processes, the sum divided by its completions is `grpo_loss` of all."""
    from nemo_plugins.alignment.grpo import measure
    from nemo_plugins.alignment.losses import grpo_loss

    generator = torch.Generator().manual_seed(0)
    rollout.reference = -torch.rand(rollout.engine.shape, generator=generator)
    rollout.old = -torch.rand(rollout.engine.shape, generator=generator)
    of = measure(GrpoConfig(kind=kind, max_tokens=4, kl_coef=0.1))
    rows = Rows(64, 4, size, 1, 0, PAD, 1)
    rows.rollout, rows.number = rollout, 0
    for first in range(0, 4, size):
        items = [rows[first + i] for i in range(size)]
        whole = rows.collate_fn(items)
        logp = -torch.rand(whole["tokens"].shape, generator=generator)
        want = grpo_loss(
            logp, whole["old"], whole["reference"], whole["advantages"], whole["loss_mask"],
            kind=kind.value, kl_coef=0.1, max_tokens=4,
        )  # fmt: skip
        clips = []
        for cuts in ([], [size // 2], range(1, size)):
            parts = [
                of({key: value[part] for key, value in whole.items()}, logp[part])
                for part in map(slice, [0, *cuts], [*cuts, size])
            ]
            count = sum(count for _, count, _ in parts)
            assert float(sum(total for total, _, _ in parts) / count) == pytest.approx(float(want), rel=1e-6)
            clips.append(float(sum(watched["clip_fraction"] for _, _, watched in parts) / count))
        assert clips == pytest.approx(clips[:1] * len(clips)) and 0 <= clips[0] <= 1
    assert np.isfinite(float(want))


@pytest.mark.nemo
@pytest.mark.parametrize("kind", GroupLoss)
def test_an_update_with_nothing_to_learn_from_has_a_loss_of_0(rollout, kind):
    from nemo_plugins.alignment.grpo import measure

    rollout.learned = torch.zeros(4)
    rows = Rows(64, 4, 4, 1, 0, PAD, 1)
    rows.rollout, rows.number = rollout, 0
    whole = rows.collate_fn([rows[i] for i in range(4)])
    total, count, _ = measure(GrpoConfig(kind=kind, max_tokens=4, kl_coef=0.1))(whole, whole["old"] - 0.1)
    assert float(total) == 0 and int(count) == 4
