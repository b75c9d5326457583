"""What `recipes/data.py` would do."""

from __future__ import annotations

from nemo_plugins.configs.schema import CorpusTask, Recipe
from nemo_plugins.planning import chat_sets_plan, corpus_plan
from nemo_plugins.planning.plan import Plan


def plan(cfg: Recipe) -> Plan:
    """Validate what is asked of documents or of chats. Raises UserError naming the key."""
    return chat_sets_plan.plan(cfg) if cfg.corpus.task is CorpusTask.chats else corpus_plan.plan(cfg)
