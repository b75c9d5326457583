"""Plugins, configurations and recipes for Minitron pruning and distillation of language models on NVIDIA NeMo."""

import os

from nemo_plugins.platforms.gpus import device_files

if not device_files():
    # megatron/core/inference/unified_memory.py:62 compiles a CUDA function while it is imported. Where there is a CUDA toolkit
    # but no GPU, torch finds no architecture to compile for and raises an IndexError that Megatron does not expect.
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0")
