"""Lines: how long they are, how they begin and end, what they hold."""

from __future__ import annotations

import math

import numpy as np

from nemo_plugins.data.quality.kinds import COUNT, KIND
from nemo_plugins.data.quality.page import Page, count, mean, share, spread

DOCUMENTATION = {
    "line_length_mean": "mean characters of a line, as a natural logarithm of 1 + it",
    "line_length_median": "median characters of a line, as a natural logarithm of 1 + it",
    "line_length_variation": "standard deviation of a line's characters over their mean",
    "lines_short": "share of lines of fewer than 20 characters",
    "lines_long": "share of lines of 200 characters or more",
    "characters_in_long_lines": "share of characters of lines in lines of 80 characters or more",
    "lines_of_few_words": "share of lines of at most four words",
    "lines_empty": "share of lines that are empty or white space",
    "lines_indented": "share of lines that begin with white space, of those not empty",
    "lines_ended": "share of lines that end in . ? ! … or a closing quotation mark",
    "lines_end_comma": "share of lines that end in a comma or semicolon",
    "lines_end_colon": "share of lines that end in a colon",
    "lines_end_letter": "share of lines that end in a letter",
    "lines_bullet": "share of lines that begin with - – — • · * # > or +",
    "lines_mark_start": "share of lines that begin with other punctuation",
    "lines_without_letters": "share of lines without a letter",
    "lines_few_letters": "share of lines less than half of whose characters are letters",
    "lines_with_bars": "share of lines with two or more of | or tab",
}  # fmt: skip
ENDS = {"lines_ended": '.?!…”»"', "lines_end_comma": ",;", "lines_end_colon": ":"}
BULLETS = "-–—•·*#>+"


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    lines, kind = page.lines, page.kind
    every, lengths, words = len(lines), lines.length, page.line_words()
    first, last = kind[lines.start], kind[lines.end - 1]
    begins, ends = (np.bincount(which, minlength=COUNT) for which in (first, last))
    letters = page.letters_before[lines.end] - page.letters_before[lines.start]
    average, total = mean(lengths), lengths.sum()
    bullets = begins[[KIND[mark] for mark in BULLETS]].sum()
    bars = np.flatnonzero((kind == KIND["|"]) | (kind == KIND["tab"]))
    in_line = np.searchsorted(bars, lines.end) - np.searchsorted(bars, lines.start)
    made = {
        "line_length_mean": math.log1p(average),
        "line_length_median": math.log1p(float(np.median(lengths))) if every else 0.0,
        "line_length_variation": share(spread(lengths), average),
        "lines_short": share(count(lengths < 20), every),
        "lines_long": share(count(lengths >= 200), every),
        "characters_in_long_lines": share(lengths[lengths >= 80].sum(), total),
        "lines_of_few_words": share(count(words <= 4), every),
        "lines_empty": share(page.empty_lines, page.empty_lines + every),
        "lines_indented": share(page.indented, every),
    }
    made |= {name: share(ends[[KIND[mark] for mark in marks]].sum(), every) for name, marks in ENDS.items()}
    made |= {
        "lines_end_letter": share(page.letter[lines.end - 1].sum(), every),
        "lines_bullet": share(bullets, every),
        "lines_mark_start": share(page.punctuation[lines.start].sum() - bullets, every),
        "lines_without_letters": share(count(letters == 0), every),
        "lines_few_letters": share(count(2 * letters < lengths), every),
        "lines_with_bars": share(count(in_line >= 2), every),
    }
    return made
