"""What an identifier is to the masking: a pattern that finds candidates and a check that decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Identifier:
    """One kind of identifier.

    Attributes:
        placeholder: what stands in its place; no identifier's pattern matches it.
        pattern: of a candidate; a named group, where one matched, is the part that is masked.
        valid: whether the candidate's text is one.
    """

    placeholder: str
    pattern: re.Pattern[str]
    valid: Callable[[str], bool] = lambda text: True

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where it stands in `text`, from left to right, never overlapping."""
        for match in self.pattern.finditer(text):
            start, end = match.span(match.lastgroup or 0)
            if self.valid(text[start:end]):
                yield start, end
