"""Architectures, how they are counted, and conversion between Hugging Face and NeMo."""
