"""A Hugging Face folder in transformers, with no code that lies in it, no pickle and no network."""

from __future__ import annotations

from pathlib import Path

LOCAL = {"local_files_only": True, "trust_remote_code": False}


def load(folder: str | Path, dtype):
    """The model in evaluation mode, on the CPU; `dtype`: torch's, or `auto` for the folder's own."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, **LOCAL)


def tokenizer(folder: str | Path):
    """Its tokenizer, a fast one where the folder has it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **LOCAL)
