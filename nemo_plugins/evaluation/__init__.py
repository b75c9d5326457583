"""Evaluation by lm-eval: which models, which tasks, what is kept, and what the scores are worth."""
