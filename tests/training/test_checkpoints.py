"""Which checkpoint a run goes on from."""

from nemo_plugins.training import checkpoints


def test_the_newest_whole_one(tmp_path):
    assert checkpoints.newest(tmp_path / "none") is None
    for name in ("step=0000002", "step=0000010", "step=0000004", "step=0000012.partial", "step=0000011.discarded", "other"):
        (tmp_path / name).mkdir()
    assert checkpoints.newest(tmp_path) == (10, tmp_path / "step=0000010")
    assert [step for step, _ in checkpoints.complete(tmp_path)] == [2, 4, 10]
