"""What the chain ends with: every model on the offline suite, and one page whose every figure can be looked up."""

import html
import json
import re
from html.parser import HTMLParser

import browser
import pytest
from laptop import ok

from nemo_plugins.reporting import headline

pytestmark = pytest.mark.nemo

MODELS = ["teacher", "pruned", "distilled", "sft", "dpo"]
NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?")
EXPRESSIONS = {
    "wide": "document.documentElement.scrollWidth",
    "pictures": "[...document.images].map(image => image.complete ? image.naturalWidth : 0)",
    "text": "document.body.innerText",
    "cut_off": "[...document.querySelectorAll('h1, h2, p, dt, dd')]"
    ".filter(one => one.scrollWidth > one.clientWidth + 1).length",
}


class Cells(HTMLParser):
    """Cells of the tables that name where they are written: (text, source)."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.source = [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.source = dict(attrs).get("data-source") if tag == "td" else self.source

    def handle_data(self, data):
        if self.source:
            self.found.append((data, self.source))
            self.source = None


def written(run, source: str):
    """What the place of a summary holds."""
    file, _, place = source.partition("#/")
    value = json.loads((run / file).read_text())
    for key in place.split("/"):
        value = value[int(key) if isinstance(value, list) else key.replace("~1", "/").replace("~0", "~")]
    return value


def shown_as(text: str, values: list[float]) -> bool:
    """Whether the numbers of a text are these values, or these in percent, bytes in MB or GiB, to the digits that it has."""
    numbers = [float(number.replace(",", "")) for number in NUMBER.findall(text)]
    digits = [len(number.partition(".")[2]) for number in NUMBER.findall(text)]
    return len(numbers) == len(values) and all(
        any(abs(number - value * scale) <= 0.5000001 * 10**-places for scale in (1, 100, 1e-6, 2**-30))
        for number, value, places in zip(numbers, values, digits, strict=True)
    )


@pytest.fixture(scope="module")
def evaluation(laptop) -> dict:
    return laptop.summary("eval")


@pytest.fixture(scope="module")
def page(laptop) -> str:
    return (laptop.run / "report" / "report.html").read_text()


def test_every_model_of_the_run_is_evaluated_with_intervals(laptop, evaluation):
    models = evaluation["models"]
    assert [model for model in models if model in MODELS] == MODELS
    assert evaluation["subject"] == "grpo" and evaluation["tasks"] == models[evaluation["subject"]]["tasks"]
    for model, block in models.items():
        assert len(block["tasks"]) == 11 and all(task["interval"] for task in block["tasks"].values())
        low, high = block["average_interval"]
        assert low <= block["average"] <= high
        assert (laptop.run / "eval" / "results" / model / "heldout_bits_per_byte.json").is_file()
        assert model == "teacher" or {"difference", "p", "recovery"} <= block["against_teacher"].keys()
    assert models["teacher"]["parameters"] == 9_965_824 and models["sft"]["parameters"] == 6_819_072


def test_a_model_that_a_conversion_has_exported_is_not_exported_again(laptop, evaluation):
    exported = {model: block["path"] for model, block in evaluation["models"].items()}
    assert exported["distilled"].endswith("convert-export/hf") and exported["pruned"].endswith("pruned-export/hf")
    assert exported["sft"].endswith("eval/models/sft")


def test_every_figure_of_the_page_is_in_the_summary_that_it_names(laptop, page):
    cells = Cells(page).found
    assert len(cells) > 100
    for text, source in cells:
        value = written(laptop.run, source)
        if "seconds" in source:
            continue  # in words: 1 min 5 s
        values = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            values = [value["score"], *([value["stderr"]] if "±" in text else [])]
        assert shown_as(text, values), (text, source, value)
    shown = {number for text, _ in cells for number in NUMBER.findall(text)}
    lead = html.unescape(re.sub(r"<dl.*?</dl>", "", page.partition("</h1>")[2].partition("<h2>")[0], flags=re.S))
    assert lead and set(re.findall(r"-?\d+\.\d+", lead)) <= shown


def test_the_page_opens_with_the_figures_of_the_run_and_names_their_places(laptop, page):
    opening = html.unescape(page.partition("<h2>")[0])
    figures = headline.of(laptop.run)
    assert [figure.name for figure in figures][:2] == ["size", "speed"] and figures[-1].name == "time"
    assert ">time<" in opening
    for figure in figures:
        if figure.name != "time":  # other tests leave further stages in the run after its page
            assert f">{figure.value}<" in opening and figure.meaning in opening
        assert all(isinstance(written(laptop.run, source), (int, float, list)) for source in figure.sources)


def test_the_page_says_what_was_not_run_and_quotes_the_paper_as_quoted(page):
    for words in ("What was not run", "open_pl", "english", "no result files given", "speed", "(quoted)", "89.93 %", "90.1 %"):
        assert words in page
    assert "<script" not in page and "http-equiv" in page


def test_the_exported_folder_has_a_model_card_and_stays_what_it_was(laptop, evaluation):
    card = (laptop.run / "report" / "README.md").read_text()
    assert card.startswith("---\nlanguage: pl\n") and "  - pruned\n" in card and "recipes/distill.py" in card
    assert "| teacher |" in card and "| GRPO |" in card and "| pruned |" not in card, "of this folder and its teacher alone"
    exported = [laptop.run / stage / "hf" / "README.md" for stage in ("aligned-export", "convert-export")]
    assert any(file.is_file() and file.read_text() == card for file in exported)
    assert "nothing to do" in ok(laptop.recipe("eval", "platform.devices=1")).stdout  # its inputs have not changed


def test_pictures_are_there_as_png_and_svg(laptop):
    plots = laptop.run / "report" / "plots"
    for name in ("eval-average", "eval-size"):
        assert (plots / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (plots / f"{name}.svg").read_text()
        assert "<svg" in svg and "teacher" in svg


@pytest.mark.skipif(browser.found() is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_a_browser_opens_draws_and_prints_it_and_it_reads_on_a_phone(laptop):
    with browser.Browser(laptop.run / "report" / "report.html") as opened:
        desk = opened.look(1280, 900, EXPRESSIONS)
        phone = opened.look(390, 800, EXPRESSIONS)
    for seen, width in ((desk, 1280), (phone, 390)):
        assert seen["wide"] <= width and not seen["cut_off"], width
        assert len(seen["pictures"]) >= 3 and all(seen["pictures"])
        assert all(address.startswith(("file://", "data:")) for address in seen["fetched"])
        assert seen["png"].startswith(b"\x89PNG") and len(seen["png"]) > 10_000
    assert desk["pdf"].startswith(b"%PDF") and len(desk["pdf"]) > 20_000
    for words in ("Scores: laptop", "Answers side by side", "Lineage", "What was not run"):
        assert words in desk["text"] and words in phone["text"]
