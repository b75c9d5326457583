"""Which checkpoint a run goes on from."""

from types import SimpleNamespace

import pytest

from nemo_plugins.training import checkpoints


def test_the_newest_whole_one(tmp_path):
    assert checkpoints.newest(tmp_path / "none") is None
    for name in ("step=0000002", "step=0000010", "step=0000004", "step=0000012.partial", "step=0000011.discarded", "other"):
        (tmp_path / name).mkdir()
    assert checkpoints.newest(tmp_path) == (10, tmp_path / "step=0000010")
    assert [step for step, _ in checkpoints.complete(tmp_path)] == [2, 4, 10]


@pytest.mark.parametrize(("keep_best", "kept"), [(True, [2, 8, 10]), (False, [8, 10])])
def test_the_newest_and_the_best_stay(tmp_path, keep_best, kept):
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"step={step:07d}").mkdir()
    train = SimpleNamespace(keep_checkpoints=2, keep_best=keep_best)
    held = {2: 3.1, 5: 2.0, 6: 3.4, 10: 3.2}  # step 5 has no checkpoint, steps 4 and 8 were not measured
    checkpoints.StepCheckpoint(train, tmp_path, tmp_path / "final", None, held).discard()
    assert [step for step, _ in checkpoints.complete(tmp_path)] == kept
    assert not list(tmp_path.glob("*.discarded")) and checkpoints.best(tmp_path, {}) is None


def test_leftovers_go(tmp_path):
    for name in ("step=0000002", "step=0000004.partial", "step=0000001.discarded"):
        (tmp_path / name).mkdir()
    checkpoints.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step=0000002"]
