"""What the stages that use NeMo import, in their order: whoever imports this module has it all."""

import contextlib
import os

from nemo_plugins import platforms

platforms.prepare()

from nemo.collections import llm  # noqa: E402, F401

from nemo_plugins.alignment import dpo, grpo, opd, sft  # noqa: E402, F401
from nemo_plugins.distillation import cached, live, record  # noqa: E402, F401
from nemo_plugins.models import conversion  # noqa: E402, F401
from nemo_plugins.pruning import prune, search  # noqa: E402, F401
from nemo_plugins.runs import prepare  # noqa: E402
from nemo_plugins.training import pretrain  # noqa: E402, F401


def expect(arguments: list[str]) -> None:
    """Called before a process is forked: what it composes first, a chain's stages alike, is composed once, here."""
    with contextlib.suppress(Exception):  # a mistake is the process's own to tell
        prepare.expect(arguments[1:])


def renew() -> None:
    """Set what the libraries took from the environment while they were imported to what a forked process's environment says."""
    from lightning_utilities.core.rank_zero import rank_zero_only

    rank_zero_only.rank = int(os.environ.get("RANK") or 0)
