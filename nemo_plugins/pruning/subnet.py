"""A student inside its teacher: ModelOpt's searchable model cut to some sizes for a while, nothing written, nothing reloaded.

What ModelOpt 0.37 lacks: its pruning exports one student and is done with the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.pruning import layer_removal

SIZES = ("hidden_size", "ffn_hidden_size", "num_attention_heads")


def sort(dynamic, sizes: set[str]) -> None:
    """Put the most important neurons, channels and heads first, for those of `SIZES` that some student changes."""
    from modelopt.torch.nas.utils import sort_parameters
    from modelopt.torch.opt.utils import named_hparams

    if sizes:
        sort_parameters(dynamic, {"num_heads_per_group" if name == "num_attention_heads" else name for name in sizes})
    for _, parameter in named_hparams(dynamic, configurable=True):
        parameter.enforce_order(None)  # the weights lie in that order now; ModelOpt would apply it a second time


@contextmanager
def cut(dynamic, teacher: Architecture, student: Architecture, kept_layers: list[int]) -> Iterator[None]:
    """Within it, a model that `sort` has ordered computes as the student does that keeps these layers (from 0)."""
    wanted = {
        "hidden_size": student.hidden_size,
        "ffn_hidden_size": student.ffn_hidden_size,
        "num_heads_per_group": student.num_attention_heads // student.num_query_groups,
    }
    dropped = set(range(teacher.num_layers)) - set(kept_layers)
    try:
        _select(dynamic, wanted, student)
        with layer_removal.without(dynamic, dropped):
            yield
    finally:
        whole = {
            "hidden_size": teacher.hidden_size,
            "ffn_hidden_size": teacher.ffn_hidden_size,
            "num_heads_per_group": teacher.num_attention_heads // teacher.num_query_groups,
        }
        _select(dynamic, whole, teacher)


def _select(dynamic, active: dict[str, int], sizes: Architecture) -> None:
    from modelopt.torch.opt.utils import named_hparams

    for name, parameter in named_hparams(dynamic, configurable=True):
        if (kind := name.split(".")[-1]) in active:
            parameter.active = active[kind]
    for key in SIZES:  # the pipeline's messages are as wide as the configuration says
        setattr(dynamic.config, key, getattr(sizes, key))
