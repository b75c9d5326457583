"""Chat data: checked rows, chat templates token for token, response-only masks, packing without leaks, pairs and prompts.

    template = ChatTemplate(tokenizer)                                   template.py: refuses what turns cannot be learnt from
    samples = sets.dialogues(files, template, cache, key=…, policy="drop", seq_length=…, learn="every")
    Windows(samples, seq_length, template.pad, seed)[i]                  dataset.py: one packed window
    Pairs(sets.pairs(files, template, cache, …), template.pad)[i]        pairs.py: chosen and rejected
    prompts.load(files, template, check, key=…, policy=…, longest=…)       prompts.py: prompts with references

    rows.py         JSONL lines; what is wrong is counted, named and dropped, or refused
    messages.py     dialogues            preferences.py  pairs            prompts.py  prompts with references
    text_template.py  messages to text   jinja.py        as transformers renders it
    sections.py     text to tokens       template.py     both, held against transformers
    encode.py       samples with loss masks
    packing.py      samples to windows
    store.py        files that are mapped into memory    sets.py          all of it, cached

Reading and checking rows imports neither torch, numpy nor transformers, so that a recipe can do it before anything loads.
"""
