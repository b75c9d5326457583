"""A Hugging Face folder that is not whole is refused by the name of the file."""

import json
import struct

import pytest

from nemo_plugins.planning import weights
from nemo_plugins.runs import UserError


def shard(path, values=8):
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}, "__metadata__": {"a": "b"}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * values))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        shard(tmp_path / name)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    return tmp_path


def refused(folder) -> str:
    with pytest.raises(UserError) as error:
        weights.check(folder, "model.path")
    return str(error.value)


def test_a_whole_folder_passes(folder):
    weights.check(folder, "model.path")


def test_a_file_written_by_the_safetensors_library_passes(folder):
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    save_file(
        {"x": numpy.ones((3, 5), "float16"), "empty": numpy.ones((0,), "float32")},
        folder / "model-00001-of-00002.safetensors",
    )
    weights.check(folder, "model.path")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "model-00002-of-00002.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name in refused(folder)


@pytest.mark.parametrize("size", [0, 5, 20, 100])
def test_a_truncated_shard_is_named(folder, size):
    file = folder / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert file.name in refused(folder) and "fetch this file again" in refused(folder)


def test_a_git_lfs_pointer_is_not_a_shard(folder):
    (folder / "model-00001-of-00002.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    assert "not a whole safetensors file" in refused(folder)


def test_pickles_alone_are_refused(folder):
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "pickle" in refused(folder) and "safetensors" in refused(folder)


def test_another_copy_beside_the_shards_is_not_counted(folder):
    shard(folder / "consolidated.safetensors")
    assert [file.name for file in weights.shards(folder, "k")] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]


def test_without_an_index_the_one_file_of_the_name_counts(folder):
    (folder / weights.INDEX).unlink()
    assert "neither model.safetensors nor model.safetensors.index.json" in refused(folder)
    shard(folder / "model.safetensors")
    shard(folder / "adapter_model.safetensors")
    assert weights.shards(folder, "k") == [folder / "model.safetensors"]


def test_a_whole_file_that_the_index_does_not_name_is_a_second_model(folder):
    shard(folder / "model.safetensors")
    assert "two models" in refused(folder)


@pytest.mark.parametrize("place", ["../x.safetensors", 3])
def test_an_index_names_files_of_its_folder(folder, place):
    (folder / weights.INDEX).write_text(json.dumps({"weight_map": {"a": place}}))
    assert "cannot be read" in refused(folder)


def test_a_broken_index_is_named(folder):
    (folder / "model.safetensors.index.json").write_text("{")
    assert "model.safetensors.index.json" in refused(folder)
