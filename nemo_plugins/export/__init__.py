"""A Hugging Face folder in the formats that people run: GGUF, FP8, NVFP4; each held against the folder after writing."""
