"""One call of a tool that can be read, whichever: for a model that does not know the form yet."""

from __future__ import annotations

from nemo_plugins.alignment.rewards import thinking
from nemo_plugins.alignment.rewards.tool_call import NoCall, only_call


def tool_call_format(prompt: str, completion: str, reference: str) -> float:
    """1.0 where the completion makes one call that `tool_call` can read, else 0.0."""
    try:
        only_call(thinking.answer(completion))
    except NoCall:
        return 0.0
    return 1.0
