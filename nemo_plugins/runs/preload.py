"""What the stages that use NeMo import, in their order: whoever imports this module has it all."""

from nemo_plugins import platforms

platforms.prepare()

from nemo.collections import llm  # noqa: E402, F401

from nemo_plugins.alignment import dpo, grpo, sft  # noqa: E402, F401
from nemo_plugins.distillation import distill, record  # noqa: E402, F401
from nemo_plugins.models import conversion  # noqa: E402, F401
from nemo_plugins.pruning import prune, search  # noqa: E402, F401
from nemo_plugins.training import pretrain  # noqa: E402, F401
