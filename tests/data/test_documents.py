"""Documents of every kind of file, whole and in parts, and what is said of one that cannot be read."""

import gzip
import json
import random

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from nemo_plugins.data.documents import documents, parts, read
from nemo_plugins.runs.errors import UserError

WORDS = ["żółw", "lis", "x" * 300, "", "dwa\nwiersze", "😀"]


@pytest.fixture(scope="module")
def texts():
    chance = random.Random(1)
    return [" ".join(chance.choices(WORDS, k=chance.randint(0, 12))) for _ in range(700)]


def write(path, texts):
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    if path.name.endswith(".parquet"):
        parquet.write_table(pyarrow.table({"id": range(len(texts)), "text": texts}), path, row_group_size=50)
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines))
    elif path.name.endswith(".zst"):
        half = len(lines) // 2  # two frames, as `cat a.zst b.zst` makes them, cut within a line
        path.write_bytes(b"".join(zstandard.ZstdCompressor().compress(piece) for piece in (lines[:half], lines[half:])))
    else:
        path.write_bytes(lines)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
@pytest.mark.parametrize("size", [1, 97, 4096, 10**9])
def test_the_parts_of_a_file_are_the_file(tmp_path, texts, name, size):
    path = write(tmp_path / name, texts)
    wanted = [text for text in texts if text]
    assert list(documents(path)) == wanted
    assert [text for part in parts(path, size) for text in read(part)] == wanted


def test_a_folder_is_read_in_the_order_of_names(tmp_path, texts):
    for name, piece in (("b/a.jsonl.gz", texts[:9]), ("a.parquet", texts[9:20]), ("notes.md", texts[20:])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, piece)
    (tmp_path / "c.txt").write_text("raz\n\ndwa\n")
    wanted = [text for text in texts[9:20] + texts[:9] if text] + ["raz", "dwa"]
    assert list(documents(tmp_path)) == wanted
    assert [text for part in parts(tmp_path, 200) for text in read(part)] == wanted


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"tekst": "b"}\n', r"byte 14: KeyError"),
        ("a.jsonl", b'{"text": 7}\n', r"byte 0: `text` is int"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', r"surrogates not allowed"),
        ("a.jsonl", b"{broken\n", r"JSONDecodeError"),
        ("a.txt", b"dobrze\n\xff\n", r"byte 7: UnicodeDecodeError"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "abc"}\n' * 9999, mtime=0)[:-30], r"breaks off or is damaged after byte"),
        ("a.jsonl.zst", zstandard.ZstdCompressor().compress(b'{"text": "abc"}\n' * 9999)[:-4], r"ends within a frame|damaged"),
        ("a.parquet", b"PAR1", r"not a whole Parquet file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        list(documents(tmp_path / name))


def test_a_link_to_a_folder_is_named_and_not_left_out(tmp_path):
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("tekst\n")
    (tmp_path / "here" / "2023").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="2023 is a link to a folder"):
        list(documents(tmp_path / "here"))


def test_a_folder_without_text(tmp_path):
    with pytest.raises(UserError, match=r"holds no text\nexpected files that end in .jsonl"):
        list(documents(tmp_path))
