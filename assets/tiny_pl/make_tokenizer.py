"""Make the tokenizer of tiny_pl: SentencePiece BPE with Llama's conventions and 4096 tokens, as a Hugging Face folder.

    python assets/tiny_pl/make_tokenizer.py        (with nemo_plugins installed or on PYTHONPATH)
    python assets/tiny_pl/make_tokenizer.py --vocabulary 32000 --to my_tokenizer --text a.jsonl.gz b.txt   (another one)

Trained on ../polish_text/train.jsonl.gz and 5,000 training exercises, with byte fallback and single digits. Bielik's
has 32,000 pieces and then <|im_start|> and <|im_end|>; this one has 4,094 and the same two as 4094 and 4095. The same
text and the same sentencepiece give the same files (one thread, nothing sampled).

The slow and the fast tokenizer agree but for text that begins with a space, where the fast one does not add its own.
The slow one's decode needs spaces_between_special_tokens=False to put no spaces around <|im_start|>.
"""

import argparse
import io
import json
import shutil
import tempfile
from pathlib import Path

import sentencepiece as spm
from transformers import AddedToken, LlamaTokenizer, LlamaTokenizerFast

from nemo_plugins.data.documents import documents
from nemo_plugins.data.exercises import exercises

FOLDER = Path(__file__).resolve().parent
TEXT = FOLDER.parent / "polish_text" / "train.jsonl.gz"
VOCAB_SIZE = 4096
CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
EXERCISES = 5000
CONTEXT = 4096  # tokens; the tokenizer only warns beyond it

# ChatML with a leading <s>, as Bielik's.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def training_lines(texts: list[Path] | None = None) -> list[str]:
    """Every paragraph and exercise once, sorted."""
    lines = {line for path in texts or [TEXT] for text in documents(path) for line in text.split("\n")}
    for exercise in exercises("train", EXERCISES, seed=0):
        lines |= {exercise.question, exercise.answer}
    return sorted(lines)


def train(lines: list[str], size: int) -> bytes:
    """The serialised SentencePiece model of `size` pieces."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.9999,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        unk_surface=" \u2047 ",
        num_threads=1,
        max_sentence_length=100_000,
        input_sentence_size=0,
        minloglevel=2,
    )
    return model.getvalue()


def make(to: Path, size: int, lines: list[str], chat_tokens: tuple[str, ...] = CHAT_TOKENS) -> None:
    """Write the files of a tokenizer of `size` tokens, `chat_tokens` the last of them, into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "tokenizer.model").write_bytes(train(lines, size - len(chat_tokens)))
        slow = LlamaTokenizer(
            str(Path(scratch) / "tokenizer.model"),
            legacy=False,
            add_bos_token=True,
            add_eos_token=False,
            pad_token="</s>",
            clean_up_tokenization_spaces=False,
            model_max_length=CONTEXT,
        )
        if chat_tokens:
            tokens = [AddedToken(token, special=True, normalized=False) for token in chat_tokens]
            slow.add_special_tokens({"additional_special_tokens": tokens})
            slow.chat_template = CHAT_TEMPLATE
        slow.save_pretrained(scratch)
        LlamaTokenizerFast.from_pretrained(scratch, legacy=False).save_pretrained(scratch)
        config = json.loads((Path(scratch) / "tokenizer_config.json").read_text(encoding="utf-8"))
        config |= {"tokenizer_class": "LlamaTokenizer"}
        if chat_tokens:
            config |= {"chat_template": CHAT_TEMPLATE}  # older readers look here
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (Path(scratch) / "tokenizer_config.json").write_text(text, encoding="utf-8")
        to.mkdir(parents=True, exist_ok=True)
        for name in (
            "tokenizer.model",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "chat_template.jinja",
        ):
            if (Path(scratch) / name).is_file():
                shutil.copyfile(Path(scratch) / name, to / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=VOCAB_SIZE, help="tokens, the two of the chat format among them")
    parser.add_argument("--to", type=Path, default=FOLDER)
    parser.add_argument("--text", type=Path, nargs="+", help="default: the bundled text")
    given = parser.parse_args()
    make(given.to, given.vocabulary, training_lines(given.text))


if __name__ == "__main__":
    main()
