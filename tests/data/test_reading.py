"""What the world sends: every document is read, and what is none is counted, named and skipped."""

import dataclasses
import gzip
import json
import os
import subprocess
import sys
from collections import Counter

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.corpus import sources
from nemo_plugins.data.corpus.reading import Read, Rejected, TaskInput, read
from nemo_plugins.runs.errors import UserError

LINE = b'{"text": "dobry tekst"}\n'


def look(path, longest=1000, **part):
    """(texts, {reason: ids}) of a file."""
    found = list(read(TaskInput(str(path), path.name, **part), longest))
    rejected: dict[str, list[str]] = {}
    for one in found:
        if isinstance(one, Rejected):
            rejected.setdefault(one.reason, []).append(one.id)
    return [one.text for one in found if isinstance(one, Read)], rejected


@pytest.mark.parametrize(
    ("name", "content", "texts", "rejected"),
    [
        ("a.jsonl", LINE + b'{"tekst": "b"}\n' + LINE, 2, {"no_text": ["a.jsonl:24"]}),
        ("a.jsonl", LINE + b'["text"]\n{"text": null}\n7', 1, {"no_text": ["a.jsonl:24", "a.jsonl:33", "a.jsonl:48"]}),
        ("a.jsonl", b"{broken\n" + LINE, 1, {"broken_json": ["a.jsonl:0"]}),
        ("a.jsonl", b"[" * 100_000 + b"\n" + LINE, 1, {"too_long": ["a.jsonl:0"]}),
        ("a.jsonl", b"[" * 900 + b"]" * 99 + b"\n" + LINE, 1, {"broken_json": ["a.jsonl:0"]}),
        ("a.jsonl", b'{"text": "\xff"}\n' + LINE, 1, {"broken_utf8": ["a.jsonl:0"]}),
        ("a.jsonl", b'{"text": "\\ud83d"}\n{"text": 7}\n' + LINE, 1, {"not_text": ["a.jsonl:0", "a.jsonl:19"]}),
        ("a.jsonl", b'{"text": " \\n\\t"}\n{"text": ""}\n\n' + LINE, 1, {"empty": ["a.jsonl:0", "a.jsonl:18"]}),
        ("a.jsonl", b"\xef\xbb\xbf" + LINE, 1, {}),
        ("a.jsonl", LINE.strip(), 1, {}),  # no newline at the end
        ("a.txt", b"dobrze\n\xff\xfe\n\ndalej\r\n", 2, {"broken_utf8": ["a.txt:7"]}),
        ("a.txt", b"x" * 1001 + b"\ndalej\n" + b"y" * 5000, 1, {"too_long": ["a.txt:0", "a.txt:1008"]}),
        ("a.txt", b"", 0, {"empty_file": ["a.txt"]}),
        ("a.jsonl.gz", b"", 0, {"empty_file": ["a.jsonl.gz"]}),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), 0, {}),
        ("a.jsonl.gz", b"this is no gzip", 0, {"damaged_file": ["a.jsonl.gz"]}),
        ("a.jsonl.zst", b"this is no zstd", 0, {"damaged_file": ["a.jsonl.zst"]}),
        ("a.parquet", b"PAR1", 0, {"damaged_file": ["a.parquet"]}),
    ],
)  # fmt: skip
def test_each_is_counted_and_named_and_the_rest_is_read(tmp_path, name, content, texts, rejected):
    path = tmp_path / name
    path.write_bytes(content)
    found, reasons = look(path)
    assert (len(found), reasons) == (texts, rejected)


def test_half_a_character_in_a_name_costs_no_document(tmp_path):
    path = tmp_path / os.fsdecode(b"z\xff.jsonl")
    path.write_bytes(b'{"text": "Ala ma kota", "source": "x \\ud83d"}\n{"text": 7}\n')
    found = list(read(TaskInput(str(path), path.name), 1000))
    sources.save(tmp_path / "parts.json", [[TaskInput(str(path), path.name)]])
    assert isinstance(found[0], Read) and found[0].text == "Ala ma kota"
    for one in found:  # as the stages between and the report write them
        json.dumps(dataclasses.asdict(one), ensure_ascii=False).encode()


def test_parquet_of_any_name_and_a_row_that_is_no_utf8_cost_no_other(tmp_path):
    path = tmp_path / os.fsdecode(b"z\xff.parquet")
    _, offsets, content = pyarrow.array([b"raz", b"\xff\xfe", b"dwa"], pyarrow.binary()).buffers()
    with open(path, "wb") as file:  # as a writer that does not look leaves it
        parquet.write_table(pyarrow.table({"text": pyarrow.StringArray.from_buffers(3, offsets, content)}), file)
    found = [one for part in sources.parts([tmp_path], 1000, whole=False) for one in read(part, 1000)]
    assert [one.text for one in found if isinstance(one, Read)] == ["raz", "dwa"]
    assert [(one.id, one.reason) for one in found if isinstance(one, Rejected)] == [("z\\udcff.parquet:1", "broken_utf8")]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gz", "zst"])
def test_of_a_truncated_file_stays_what_was_read_before(tmp_path, pack):
    whole = b"".join(
        json.dumps({"text": f"tekst {number * 7919 % 10007} {number}"}).encode() + b"\n" for number in range(40_000)
    )
    path = tmp_path / ("a.jsonl.gz" if pack is gzip.compress else "a.jsonl.zst")
    path.write_bytes(pack(whole)[:-5000])
    texts, reasons = look(path)
    assert 1000 < len(texts) < 40_000 and texts[0] == "tekst 0 0"
    assert list(reasons) == ["damaged_file"] and len(reasons["damaged_file"]) == 1


def test_a_line_that_spans_parts_belongs_to_the_one_it_begins_in(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": f"{number}" * (number % 90 + 1)}).encode() + b"\n" for number in range(400)]
    lines[57] = b'{"text": "' + b"x" * 3000 + b'"}\n'  # longer than several parts
    path.write_bytes(b"".join(lines))
    whole, reasons = look(path)
    for size in (1, 50, 333, 10_000):
        made = sources.parts([path], size, whole=False)
        found = [one for part in made for one in read(part, 1000)]
        assert [one.text for one in found if isinstance(one, Read)] == whole
        assert [one.id for one in found if isinstance(one, Rejected)] == reasons["too_long"]
    assert reasons == {"too_long": [f"a.jsonl:{len(b''.join(lines[:57]))}"]}


def test_a_line_of_200_mb_takes_no_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    with open(path, "wb") as file:
        file.write(LINE + b'{"text": "')
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + LINE)
    code = (
        "from nemo_plugins.data.corpus.reading import TaskInput, read\n"
        "from nemo_plugins.runs import peak_memory_bytes\n"
        "before = peak_memory_bytes()\n"
        f"found = [type(one).__name__ for one in read(TaskInput({str(path)!r}, 'a'), 1 << 20)]\n"
        "print(found, peak_memory_bytes() - before < 20e6)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.stdout == "['Read', 'Rejected', 'Read'] True\n", done.stderr


def test_parquet_rows_and_a_folder_of_text_files(tmp_path):
    table = {"text": ["raz", None, "dwa", " ", "y" * 2000] * 10, "source": ["strona"] * 50}
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet", row_group_size=7)
    made = sources.parts([tmp_path / "a.parquet"], 1, whole=False)
    assert len(made) == 8
    found = [one for part in made for one in read(part, 1000)]
    assert Counter(one.reason for one in found if isinstance(one, Rejected)) == {"no_text": 10, "empty": 10, "too_long": 10}
    assert [one.id for one in found][:3] == ["a.parquet:0", "a.parquet:1", "a.parquet:2"]
    assert {one.source for one in found if isinstance(one, Read)} == {"strona"}
    folder = tmp_path / "teksty"
    folder.mkdir()
    (folder / "b.txt").write_text("pierwszy wiersz\ndrugi wiersz\n")
    (folder / "c.txt").write_text("inny dokument")
    whole = [one for part in sources.parts([folder], 1, whole=True) for one in read(part, 1000)]
    assert [(one.id, one.text) for one in whole] == [("b.txt", "pierwszy wiersz\ndrugi wiersz\n"), ("c.txt", "inny dokument")]
    assert len([one for part in sources.parts([folder], 1, whole=False) for one in read(part, 1000)]) == 3


def test_what_would_lose_every_document_is_refused(tmp_path):
    parquet.write_table(pyarrow.table({"content": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="columns content\nexpected one named text"):
        sources.parts([tmp_path / "a.parquet"], 1000, whole=False)
    with pytest.raises(UserError, match="no file or folder"):
        sources.parts([tmp_path / "nothing"], 1000, whole=False)


def test_tasks_are_runs_of_parts_and_do_not_change(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_bytes(b"zdanie\n" * 100)
    parts = sources.parts([tmp_path], 200, whole=False)
    tasks = sources.tasks(parts, 400)
    assert [part for task in tasks for part in task] == parts and len(tasks) == 5
    sources.save(tmp_path / "w" / "parts.json", tasks)
    sources.save(tmp_path / "w" / "parts.json", tasks)
    assert sources.load(tmp_path / "w" / "parts.json") == tasks
    (tmp_path / "a.txt").write_bytes(b"inne" * 175)
    with pytest.raises(UserError, match="begun with other sources"):
        sources.save(tmp_path / "w" / "parts.json", tasks)


def test_a_data_set_by_name(tmp_path):
    rows = tmp_path / "zbior"
    rows.mkdir()
    (rows / "train.jsonl").write_text('{"text": "raz"}\n{"text": "dwa"}\n')
    folder = sources.fetch(f"hf:{rows}", tmp_path / "fetched")
    assert [one.text for part in sources.parts([folder], 1000, whole=False) for one in read(part, 1000)] == ["raz", "dwa"]
    assert sources.fetch(f"hf:{rows}", tmp_path / "fetched") == folder
    with pytest.raises(UserError, match="expected a data set of the hub"):
        sources.fetch(f"hf:{tmp_path / 'nothing'}", tmp_path / "fetched")
