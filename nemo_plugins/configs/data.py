"""Text, tokens and languages. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class DataConfig:
    """Text or tokens: `.jsonl[.gz]` with a `text` field, `.txt[.gz]` one paragraph a line, or a Megatron `.bin/.idx` prefix."""

    train: list[str] = field(default_factory=list)
    heldout: list[str] = field(default_factory=list)
    heldout_samples: int = MISSING  # windows of the held-out text that every loss is measured on, from its start
    heldout_more: dict[str, str] = field(default_factory=dict)  # further held-out texts by name, e.g. {en: …}: watched apart
    weights: list[float] | None = None  # of the train sources; default: by size
    document_boundaries: bool = False  # training attention stays within a document
    exercises: int = 0  # simple Polish exercises (nemo_plugins.data.exercises) mixed into the training text, as documents
    exercises_share: float | None = None  # of what is drawn, above 0 and below 1; default: by their tokens


@dataclass
class LanguageConfig:
    """What is particular to a language, `conf/language/<code>.yaml`: adding one is adding a file (docs/languages.md)."""

    code: str = MISSING  # ISO 639-1
    name: str = MISSING  # in English
    alphabet: str = MISSING  # its letters in lower case
    stop_words: list[str] = MISSING  # the commonest words, lower case
    replace: dict[str, str] = field(default_factory=dict)  # characters that its texts are freed of, beyond what ftfy mends
    identifiers: list[str] = field(default_factory=lambda: ["email", "iban", "phone"])  # masked: data/personal/identifiers.py
    system_prompt: str = ""  # of chats
    decimal_separator: str = ","
    thousands_separators: list[str] = field(default_factory=lambda: [" ", "\u00a0", "\u202f"])
    number_words: str | None = None  # module:function, from an int to its words
    answer_words: dict[str, str] = field(default_factory=dict)  # {name} in the five below stands for it; {letter} is there
    answer_phrases: list[str] = field(
        default_factory=list
    )  # of a chosen option: regular expressions, the letter the only group
    mentions: list[str] = field(default_factory=list)  # the same, of an option that is chosen where no phrase chooses one
    hedges: list[str] = field(default_factory=list)  # regular expressions of not choosing
    denials: list[str] = field(default_factory=list)  # regular expressions of what follows a letter that is said to be wrong
    denials_before: list[str] = field(default_factory=list)  # and of what stands before the phrase, ending in $
    evaluation: list[str] = field(default_factory=list)  # suites
    boilerplate: list[str] = field(default_factory=list)  # what stands around texts of web pages, for the quality classifier
    spam: list[str] = field(default_factory=list)  # words of keyword spam, for the same
    quality_model: str | None = None  # folder of a quality classifier (docs/quality.md)
