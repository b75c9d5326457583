"""Alignment: supervised fine-tuning, DPO-Positive, GRPO and its rewards."""
