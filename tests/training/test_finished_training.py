"""A training that was stopped between its last checkpoint and its summary: the same command finishes it without a step."""

from pathlib import Path

import pytest
from nemo.lightning.data import MegatronPretrainingSampler
from torch import distributed

from nemo_plugins.configs.schema import DataConfig
from nemo_plugins.data import text
from nemo_plugins.training import training
from nemo_plugins.training.progress import Metrics

pytestmark = pytest.mark.nemo

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "tiny_pl"
LINES = [{"step": 1, "loss": 3.0, "margin": 0.1}, {"step": 2, "val_loss": 2.5}, {"step": 2, "loss": 2.0, "margin": 0.2}]


class Folder:
    def __init__(self, is_writer: bool):
        self.is_writer = is_writer

    def read_metrics(self):
        return iter(LINES)


@pytest.mark.parametrize(
    ("is_writer", "last", "known"),
    [(True, {}, LINES[::2]), (True, LINES[2], LINES[::2]), (False, {}, LINES[::2]), (False, LINES[2], LINES[2:])],
)
def test_every_process_knows_the_metrics_of_the_steps(is_writer, last, known):
    assert training.logged(Folder(is_writer), last) == known


def test_the_speed_is_that_of_the_run_and_not_of_its_last_step():
    lines = [
        {"step": 1, "loss": 3.0, "tokens_per_second": 10.0, "mfu": 0.1, "train_seconds": 10.0},
        {"step": 4, "loss": 2.0, "tokens_per_second": 100.0, "mfu": 1.0, "train_seconds": 16.0},
    ]
    assert training.whole_speed(lines, 100.0) == {"tokens_per_second": pytest.approx(25.0), "mfu": pytest.approx(0.25)}
    assert training.whole_speed([{"step": 2, "loss": 2.0, "tokens_per_second": 5.0}], 100.0) == {"tokens_per_second": 5.0}


def test_a_resumed_run_goes_on_with_the_seconds_of_the_attempts_before():
    class Resumed(Folder):
        def read_metrics(self):
            return iter([{"step": 2, "train_seconds": 8.0}, {"step": 2, "val_loss": 3.0}])

    metrics = Metrics.__new__(Metrics)
    metrics.run = Resumed(True)
    assert metrics.seconds_before(3) == 12.0  # step 3 was not logged
    metrics.run = Folder(True)
    assert metrics.seconds_before(0) == 0.0


@pytest.fixture
def one_process(tmp_path):
    distributed.init_process_group("gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("weights", [None, [4.0, 1.0]])
def test_there_are_samples_after_the_last_step(tmp_path, one_process, weights):
    from nemo.collections.common.tokenizers import AutoTokenizer

    for name, word in (("pl", "Ala ma kota. "), ("en", "The cat sat. ")):
        (tmp_path / f"{name}.txt").write_text(f"{word * 40}\n" * 60)
    paths = [str(tmp_path / f"{name}.txt") for name in ("pl", "en")]
    module, _ = text.data_module(
        DataConfig(heldout=paths[:1], heldout_samples=4, weights=weights), paths, "distill.data", AutoTokenizer(str(BUNDLED)),
        tmp_path / "cache", text.BatchShape(16, 1, 4), seed=1,
    )  # fmt: skip
    module.build(trainer_max_steps=5)
    served = module._train_ds
    sampler = MegatronPretrainingSampler(len(served), 5 * 4, 1, 0, 1)  # raises where none is left
    assert len(list(sampler)) >= 4 and served[len(served) - 1]["tokens"].shape == (16,)
