"""The bundled model's tokenizer."""

import pytest
from transformers import AutoTokenizer

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.chat.template import ChatTemplate


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(REPOSITORY / "assets" / "tiny_pl")


@pytest.fixture(scope="module")
def template(tokenizer):
    return ChatTemplate(tokenizer)
