"""Models that answer: transformers, llama.cpp, an endpoint; what `recipes/chat.py` talks to and `recipes/bench.py` times."""
