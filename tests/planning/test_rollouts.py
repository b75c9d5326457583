"""What drawing completions takes, by hand."""

import pytest

from nemo_plugins.configs.schema import PlatformConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import devices, memory, rollouts
from nemo_plugins.planning.rollouts import Rollouts
from nemo_plugins.runs.prepare import compose

STUDENT = Architecture(40, 4096, 11264, 32, 8, 128, 32128)
ON_16 = PlatformConfig(devices=8, nodes=2, tensor_parallel=4)
DRAWN = Rollouts(completions=1024, batch=128, length=4096, drawn=2048, updates=1)


def test_the_cache_is_that_of_the_rows_that_are_drawn_side_by_side():
    token = 2 * 40 * 8 * 128 * 2  # keys and values of a token in bf16
    assert DRAWN.cache(STUDENT, ON_16) == 128 * 4096 * token / 4
    few = Rollouts(completions=8, batch=128, length=4096, drawn=2048, updates=1)
    assert few.cache(STUDENT, ON_16) == 2 * 4096 * token / 4  # 8 completions on 4 copies


def test_the_state_of_the_training_stays_where_it_is():
    train = compose(["+model=bielik11b", "experiment=minitron_7b"]).grpo
    step = memory.training(STUDENT, train, ON_16, 2)
    need = DRAWN.memory(STUDENT, ON_16, step)
    assert (need.weights, need.gradients, need.optimizer) == (step.weights, step.gradients, step.optimizer)
    assert need.cache == DRAWN.cache(STUDENT, ON_16) and need.activations == 0


def test_a_token_takes_the_launches_and_the_bytes_that_it_reads():
    gpu = devices.load("h100", "gpu")
    read = 2 * STUDENT.parameters() + 128 * 3072 * 2 * 40 * 8 * 128 * 2  # 3,072 tokens in the cache, on average
    step = 40 * rollouts.LAUNCH + read / (4 * 3350e9)
    assert DRAWN.seconds(STUDENT, ON_16, gpu) == pytest.approx(2 * 2048 * step)  # 256 completions a copy: two batches
    wider = Rollouts(completions=1024, batch=256, length=4096, drawn=2048, updates=1)
    assert wider.seconds(STUDENT, ON_16, gpu) < 0.7 * DRAWN.seconds(STUDENT, ON_16, gpu)


def test_a_server_draws_on_gpus_of_its_own():
    grpo = compose(["+model=bielik11b", "experiment=minitron_7b", "grpo.engine=endpoint"]).grpo
    assert rollouts.of(grpo, 1) is None
    grpo = compose(["+model=bielik11b", "experiment=minitron_7b"]).grpo
    assert rollouts.of(grpo, 1) == Rollouts(128 * 8, grpo.rollout_batch, grpo.seq_length, grpo.max_tokens, 1)
