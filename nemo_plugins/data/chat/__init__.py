"""Chat data: checked rows, ChatML token for token, response-only masks, packing without leaks, pairs and prompts.

    rows.py         JSONL lines; what is wrong is counted, named and dropped, or refused
    messages.py     dialogues            preferences.py  pairs            prompts.py  prompts with references
    template.py     messages to tokens   encode.py       samples with loss masks
    packing.py      samples to windows   block_mask.py   attention inside a document only
    store.py        files that are mapped into memory    sets.py          all of it, cached

Reading and checking rows imports neither torch, numpy nor transformers, so that a recipe can do it before anything loads.
"""
