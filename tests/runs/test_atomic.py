"""What is written has its name only once it is whole."""

from pathlib import Path

import pytest

from nemo_plugins.runs import atomic


def test_a_folder_takes_the_place_of_an_unfinished_one_and_of_what_killed_attempts_left(tmp_path):
    to = tmp_path / "checkpoint"
    for left in (to, tmp_path / "checkpoint.partial", tmp_path / ".checkpoint.partial", tmp_path / "checkpoint.discarded"):
        left.mkdir()
        (left / "old").touch()
    with atomic.whole(to) as folder:
        (folder / "new").touch()
        assert [file.name for file in to.iterdir()] == ["old"]
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["checkpoint", "checkpoint/new"]


def _files(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_file_that_could_not_be_written_leaves_the_one_that_is_there(tmp_path):
    to = tmp_path / "record" / "part.safetensors"
    with atomic.whole_file(to) as partial:
        partial.write_text("whole")
    with pytest.raises(KeyboardInterrupt), atomic.whole_file(to) as partial:
        partial.write_text("ha")
        raise KeyboardInterrupt
    assert _files(to.parent) == {to.name: "whole"}
