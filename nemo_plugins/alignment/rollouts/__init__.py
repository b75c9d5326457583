"""Completions of prompts by an engine: the training weights in place, or a server beside them.

An engine is an object with

    complete(requests, greedy=False) -> list[Completion]    one each, in order; every process of a model-parallel group calls
        it with the same requests and gets the same completions
    on_policy: bool    whether it always samples from the weights that are trained, as they are
    fresh: bool    whether it does now; age: how many updates ago it did
    local    an engine that does, for greedy answers
    refresh(rollout, updates)    called before each rollout by every process

Whose tokens are drawn how does not depend on who draws them: a request brings its own uniform numbers (`sampling.uniforms`), so
a completion is the same at any batch size and data-parallel layout, and no random state needs saving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class Away(Exception):
    """An engine does not answer: the run stops, and goes on where it was when the engine is back."""


@dataclass(frozen=True)
class Request:
    """A prompt to be completed once.

    Attributes:
        ids: its tokens, up to the assistant's header.
        uniforms: one number in [0, 1) for each token that may be drawn; their count is the longest completion.
        seed: for an engine that draws by itself.
    """

    ids: tuple[int, ...]
    uniforms: np.ndarray
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """What came of a request.

    Attributes:
        ids: drawn tokens, the end token included where it was drawn.
        logp: log-probability of each under what it was drawn from.
        entropy: of that distribution at each token, nats; empty where an engine does not tell.
        ended: whether an end token was drawn; else it was cut off.
    """

    ids: list[int]
    logp: list[float]
    entropy: list[float]
    ended: bool
