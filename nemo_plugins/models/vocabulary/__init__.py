"""Another tokenizer for a model that is trained: what its new embeddings start from."""
