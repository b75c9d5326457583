"""Lines: how long they are, how they begin and end, what they hold."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.character_kinds import KIND, one_of
from nemo_plugins.data.quality.page import Pages, share

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


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    lines, kind = pages.lines, pages.kind
    every, lengths, total = lines.count, lines.length, lines.sum(lines.length)
    first, last = kind[lines.start], kind[lines.end - 1]

    letters = lines.among(pages.letters_before)
    average, bullets = lines.mean(lengths), lines.sum(one_of(BULLETS)[first])
    bars = np.flatnonzero((kind == KIND["|"]) | (kind == KIND["tab"]))
    in_line = np.searchsorted(bars, lines.end) - np.searchsorted(bars, lines.start)
    features = {
        "line_length_mean": np.log1p(average),
        "line_length_median": np.log1p(lines.median(lengths)),
        "line_length_variation": share(lines.spread(lengths), average),
        "lines_short": share(lines.sum(lengths < 20), every),
        "lines_long": share(lines.sum(lengths >= 200), every),
        "characters_in_long_lines": share(lines.sum(np.where(lengths >= 80, lengths, 0)), total),
        "lines_of_few_words": share(lines.sum(pages.line_words <= 4), every),
        "lines_empty": share(pages.empty_lines, pages.empty_lines + every),
        "lines_indented": share(pages.indented, every),
    }
    features |= {name: share(lines.sum(one_of(marks)[last]), every) for name, marks in ENDS.items()}
    features |= {
        "lines_end_letter": share(lines.sum(pages.letter[lines.end - 1]), every),
        "lines_bullet": share(bullets, every),
        "lines_mark_start": share(lines.sum(pages.punctuation[lines.start]) - bullets, every),
        "lines_without_letters": share(lines.sum(letters == 0), every),
        "lines_few_letters": share(lines.sum(2 * letters < lengths), every),
        "lines_with_bars": share(lines.sum(in_line >= 2), every),
    }
    return features
