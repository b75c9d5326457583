"""What a completion answers, without what it thinks: `<think>…</think>` is weighed by no reward of an answer."""

from __future__ import annotations

import re

_TAG = re.compile(r"</?think>")


def answer(completion: str) -> str:
    """The completion without its thinking; nothing where it never stops thinking.

    A closing tag without an opening one ends a thinking that the prompt has begun, so that what is before it is no answer.
    """
    kept: list[str] = []
    start, thinking = 0, False
    for tag in _TAG.finditer(completion):
        if tag[0] == "<think>":
            if not thinking:
                kept.append(completion[start : tag.start()])
            thinking = True
        else:
            if not thinking:
                kept.clear()
            start, thinking = tag.end(), False
    return "\n".join(kept if thinking else [*kept, completion[start:]])
