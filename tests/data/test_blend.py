"""What the weights of a blend mean, and that the training draws so."""

from pathlib import Path

import pytest

from nemo_plugins.configs.schema import DataConfig
from nemo_plugins.data import blend
from nemo_plugins.runs.errors import UserError

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "tiny_pl"


def test_shares():
    assert blend.shares([300, 100], None) == [0.75, 0.25]
    assert blend.shares([300, 100], [4, 1]) == [0.8, 0.2]
    assert blend.shares([300, 100, 100], [4, 1], extra=1) == pytest.approx([0.64, 0.16, 0.2])
    assert blend.shares([300, 100, 50], [4, 1], extra=1, extra_share=0.5) == pytest.approx([0.4, 0.1, 0.5])
    assert blend.shares([300, 100, 50], None, extra=1, extra_share=0.6) == pytest.approx([0.3, 0.1, 0.6])


def test_a_source_that_is_read_too_often_is_warned_of():
    told = blend.sources(["pl", "en"], [1_000_000, 10_000], [0.8, 0.2], trained=1_000_000)
    assert [one.epochs for one in told] == [0.8, 20.0]
    [warning] = blend.warnings(told)
    assert warning.startswith("en is read 20.0 times (200,000 tokens of 10,000)")


@pytest.mark.parametrize(
    ("weights", "says"), [([1.0], "1 numbers for the 2 sources"), ([1.0, 0.0], "0 for en"), ([1.0, float("nan")], "nan for en")]
)
def test_weights_that_mean_nothing(weights, says):
    with pytest.raises(UserError, match=says):
        blend.check(DataConfig(weights=weights), ["texts/pl.jsonl.gz", "texts/en.jsonl.gz"], "distill.data")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_of_exercises_that_is_no_part(share):
    with pytest.raises(UserError, match=r"exercises_share=.*above 0 and below 1"):
        blend.check(DataConfig(exercises=9, exercises_share=share), ["texts/pl.jsonl.gz"], "distill.data")


def test_the_share_of_no_exercises_changes_nothing():
    assert blend.settings(DataConfig(exercises_share=0.5)) == blend.settings(DataConfig()) == []
    assert blend.settings(DataConfig(exercises=9, exercises_share=0.5)) == ["exercises 0.5"]


def test_names_are_apart():
    assert blend.names(["a/pl.jsonl.gz", "b/pl.jsonl.gz", "en.txt"]) == ["a/pl", "b/pl", "en"]


@pytest.fixture
def one_process(tmp_path):
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.nemo
def test_the_training_draws_by_weight(tmp_path, one_process):
    """Of 400 samples of two texts at 4 to 1, four fifths are of the first."""
    from nemo.collections.common.tokenizers import AutoTokenizer

    from nemo_plugins.data import text

    for name, word in (("pl", "Ala ma kota. "), ("en", "The cat sat. ")):
        (tmp_path / f"{name}.txt").write_text(f"{word * 40}\n" * 60)
    paths = [str(tmp_path / f"{name}.txt") for name in ("pl", "en")]
    tokenizer = AutoTokenizer(str(BUNDLED))
    data = DataConfig(heldout=paths[:1], heldout_samples=4, weights=[4.0, 1.0])
    module, _ = text.data_module(
        data, paths, "distill.data", tokenizer, tmp_path / "cache", text.BatchShape(16, 1, 4), seed=1
    )  # fmt: skip
    module.build(trainer_max_steps=100)
    polish = sum("kot" in tokenizer.ids_to_text(module._train_ds[i]["tokens"].tolist()) for i in range(400))
    assert polish / 400 == pytest.approx(0.8, abs=0.01)
