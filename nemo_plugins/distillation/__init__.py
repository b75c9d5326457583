"""Distillation through `llm.distill`."""
