"""Minitron pruning through `llm.prune`."""
