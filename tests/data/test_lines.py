"""One way to read lines: byte order marks, blank lines, spaces and line ends are alike for every reader of text files."""

import gzip
import json

import pytest
import zstandard

from nemo_plugins.data import documents, lines
from nemo_plugins.data.chat import messages, rows
from nemo_plugins.data.corpus import reading
from nemo_plugins.evaluation import cache

BOM = "\ufeff"
TEXTS = ["zażółć", "gęślą jaźń"]
SPELLINGS = {
    "plain": "{0}\n{1}\n",
    "no last end": "{0}\n{1}",
    "mark": BOM + "{0}\n{1}\n",
    "mark of a file that was joined": BOM + "{0}\n" + BOM + "{1}\n",
    "mark and nothing": BOM + "\n{0}\n{1}\n" + BOM,
    "carriage returns": "{0}\r\n\r\n{1}\r\n",
    "blank": "\n\n{0}\n\n{1}\n\n",
    "spaces": "   \n{0}\n \t \n{1}\n  ",
    "other white space": "\u00a0\n{0}\n\u3000 \u2003\n{1}\n\x0b\x0c\n",
}
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


def write(path, spelling, found):
    path.write_bytes(PACK[path.suffix if path.suffix in PACK else ""](SPELLINGS[spelling].format(*found).encode()))
    return path


def corpus(path, **part):
    return [one.text for one in reading.read(reading.TaskInput(str(path), path.name, **part), 1000)]


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
def test_every_reader_of_documents_has_the_same(tmp_path, spelling, packed, kind):
    found = [json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS] if kind == ".jsonl" else TEXTS
    path = write(tmp_path / f"a{kind}{packed}", spelling, found)
    assert list(documents.documents(path)) == TEXTS
    assert [
        text for size in (1, 8, 10**6) for part in documents.parts(path, size) for text in documents.read(part)
    ] == 3 * TEXTS
    assert corpus(path) == TEXTS
    if not packed:
        for middle in range(1, path.stat().st_size):
            assert corpus(path, stop=middle) + corpus(path, start=middle) == TEXTS


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_rows_of_chats_have_the_same(tmp_path, spelling, packed):
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}] for text in TEXTS]
    found = [json.dumps({"messages": each}, ensure_ascii=False) for each in turns]
    path = write(tmp_path / f"a.jsonl{packed}", spelling, found)
    report = rows.Report()
    assert [row.messages for row in rows.read([path], messages.check, report)] == turns and not report.faults


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_texts_and_items_of_an_evaluation_are_the_same(tmp_path, spelling, packed):
    from nemo_plugins.evaluation.tasks import data

    path = write(tmp_path / f"a.jsonl{packed}", spelling, [json.dumps({"text": text}) for text in TEXTS])
    assert data._rows(path) == [{"text": text} for text in TEXTS]


def test_separators_of_lines_within_a_text_separate_none(tmp_path):
    said = [{"answer": "a\u2028b\u0085c"}, {"answer": "d"}]
    file = tmp_path / "t.json"
    cache.keep(file, cache.Result(1.0, None, {}, 2, [], 0.0), said)
    assert cache.read_samples(cache.samples_of(file)) == said
    (tmp_path / "a.txt").write_text("a\u2028b\nc", encoding="utf-8")
    assert list(documents.documents(tmp_path / "a.txt")) == ["a\u2028b", "c"]


def test_numbers_and_places_count_what_is_skipped(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(lines.BOM + b"a\r\n \nbb\n" + b"c" * 9 + b"\nd\n")
    with lines.opened(file) as stream:
        found = list(lines.read(stream, longest=5))
    assert found == [(1, 0, 6, b"a"), (3, 8, 3, b"bb"), (4, 11, 10, None), (5, 21, 2, b"d")]
