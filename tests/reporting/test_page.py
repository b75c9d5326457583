"""The HTML page: whole, self-contained, and safe to show whatever a name or an error says."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from nemo_plugins.reporting.page import PageTable, Picture, Section, cell, page

HOSTILE = '"><script src="https://evil.example/x.js">alert(1)</script><img src=x onerror=alert(1)> & \'{title}\' \udc80'


class Read(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    return path


def test_nothing_is_fetched_and_hostile_text_is_only_text(tmp_path, picture):
    parts = [HOSTILE, PageTable([HOSTILE, "n"], [(HOSTILE, 1)]), Picture(picture, HOSTILE)]
    text = page(tmp_path / "new" / "report.html", HOSTILE, [HOSTILE], [Section(HOSTILE, parts)]).read_text("utf-8")
    read = Read(text)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in read.tags}
    assert not [attrs for _, attrs in read.tags if any(name.startswith("on") for name in attrs)]
    sources = [value for _, attrs in read.tags for name, value in attrs.items() if name in ("src", "href", "srcset", "data")]
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import", text)
    assert read.text.count("<script src=") == 7  # title twice, lead, heading, paragraph, header, cell
    assert [attrs["alt"] for tag, attrs in read.tags if tag == "img"] == [HOSTILE.replace("\udc80", "?")]


def test_pictures_are_embedded_byte_for_byte(tmp_path, picture):
    text = page(tmp_path / "report.html", "t", "lead", [Section("s", [Picture(picture, "p")])]).read_text()
    assert base64.b64decode(re.search(r"base64,([^\"]+)", text)[1]) == picture.read_bytes()


def test_columns_of_numbers_are_aligned_right(tmp_path):
    rows = [("a", 1234, 0.5, "9,216 of 14,336", "7 days"), ("b", None, np.float32(2.25), "−3.5 %", "x")]
    text = page(tmp_path / "report.html", "t", "lead", [Section("s", [PageTable(["name", "n", "loss", "kept", "note"], rows)])])
    cells = re.findall(r"<t[hd]( class=\"n\")?>([^<]*)</t", text.read_text())
    assert [bool(right) for right, _ in cells] == [False, True, True, True, False] * 3
    assert [shown for _, shown in cells[5:10]] == ["a", "1,234", "0.5000", "9,216 of 14,336", "7 days"]
    assert [shown for _, shown in cells[10:]] == ["b", "–", "2.2500", "−3.5 %", "x"]


def test_small_numbers_keep_their_digits():
    shown = [cell(value) for value in (1.23e-5, -2e-4, 0.0, float("nan"), 3, np.int64(4096))]
    assert shown == ["1.23e-05", "-0.0002", "0.0000", "nan", "3", "4,096"]


def test_a_row_of_another_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 columns .* 1 cells"):
        page(tmp_path / "report.html", "t", "lead", [Section("s", [PageTable(["a", "b"], [("x",)])])])
    assert not (tmp_path / "report.html").exists()
