"""Long completions lose; what was cut off at the token limit is the recipe's business, which knows the tokens."""

from __future__ import annotations


def length(prompt: str, completion: str, reference: str, *, limit: int = 2000) -> float:
    """1.0 up to `limit` characters, then a straight line down to 0.0 at twice as many."""
    if limit < 1:
        raise ValueError(f"limit must be 1 or more characters, got {limit}")
    return min(1.0, max(0.0, 2 - len(completion) / limit))
