"""What alignment on chats changes in the Hugging Face files of a model: its chat template and what stops an answer."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from nemo_plugins import runs
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.data.chat.text_template import CHATML, END, START
from nemo_plugins.models import nemo


def write_chatml(tokenizer, description: Path) -> None:
    """Give a tokenizer of transformers and its files ChatML, with the special tokens that it lacks as its next ids."""
    from transformers import AddedToken

    has = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    missing = [name for name in (START, END) if name not in has]
    if missing:
        added = [AddedToken(name, special=True, normalized=False) for name in missing]
        tokenizer.add_special_tokens({"additional_special_tokens": added}, replace_additional_special_tokens=False)
        runs.say(f"chat.template=chatml: the tokenizer gets {' and '.join(missing)}")
    tokenizer.chat_template = CHATML
    with TemporaryDirectory() as folder:  # the processes of a job write the same files
        tokenizer.save_pretrained(folder)
        nemo.copy_description(Path(folder), description)


def stop_at(description: Path, template: ChatTemplate) -> None:
    """Put what ends a turn among the ends of `generation_config.json`."""
    file = description / "generation_config.json"
    values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    ends = values.get("eos_token_id")
    if ends is None:
        ends = sorted(template.ends - {template.end})
    ends = ends if isinstance(ends, list) else [ends]
    if template.end not in ends:
        runs.folder.write(file, json.dumps(values | {"eos_token_id": [*ends, template.end]}, indent=2) + "\n")
