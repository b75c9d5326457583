"""What the stages that use NeMo import, in their order: whoever imports this module has it all, Hydra's schema too."""

import os

from nemo_plugins import platforms

platforms.prepare()

from nemo.collections import llm  # noqa: E402, F401

from nemo_plugins.alignment import dpo, grpo, sft  # noqa: E402, F401
from nemo_plugins.distillation import cached, live, record  # noqa: E402, F401
from nemo_plugins.models import conversion  # noqa: E402, F401
from nemo_plugins.pruning import prune, search  # noqa: E402, F401
from nemo_plugins.runs.prepare import composed  # noqa: E402
from nemo_plugins.training import pretrain  # noqa: E402, F401

composed([])  # Hydra reads the schema once


def renew() -> None:
    """Set what the libraries took from the environment while they were imported to what a forked process's environment says."""
    from lightning_utilities.core.rank_zero import rank_zero_only

    rank_zero_only.rank = int(os.environ.get("RANK") or 0)
