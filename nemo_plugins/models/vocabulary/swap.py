"""A Hugging Face folder with another tokenizer: its own files and layers as they are, its embeddings for the new vocabulary."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe, Start
from nemo_plugins.data import documents
from nemo_plugins.data.batches import batches
from nemo_plugins.data.tokens import BATCH, BATCH_CHARACTERS
from nemo_plugins.models import nemo
from nemo_plugins.models.vocabulary import focus, shards, space, tokens
from nemo_plugins.models.vocabulary.tokens import Vocabulary
from nemo_plugins.planning import hf_folder, vocabulary_plan, weights
from nemo_plugins.runs import paths

MATRICES = ("model.embed_tokens.weight", "lm_head.weight")  # input and output; one where they are tied
MODEL_FILES = ("config.json", "generation_config.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json")
SHOWN = 8  # new tokens in the summary, with what they are made of


def run(cfg: Recipe, run: runs.Run) -> None:
    """Put `convert.tokenizer` in place of the tokenizer of `convert.source` (default: `model.path`)."""
    asked, key = cfg.convert.vocabulary, "convert.source" if cfg.convert.source else "model.path"
    source = run.input(paths.weights_of(cfg.convert.source or cfg.model.path, key))
    given = run.input(runs.resolve(str(cfg.convert.tokenizer)))
    text, heldout = ([run.input(runs.resolve(one)) for one in part] for part in (asked.text, asked.heldout))
    partial, to = run.folder / "hf.partial", run.folder / "hf"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    old = tokens.read(source, key)
    new = write_tokenizer(given, source, partial, old)
    shared = tokens.shared(new, old)
    wanted = [number for number in range(new.size) if number not in shared]
    with runs.console().status(f"{len(wanted):,} new tokens: neighbours in {asked.megabytes:g} MB of text") as status:
        mixed = None
        if asked.start is Start.focus:
            plain = [None if number in new.special.values() else one for number, one in enumerate(new.texts)]
            ids = encode(partial, take(text, asked.megabytes))
            vectors = space.build(plain, ids, cfg.run.seed)
            mixed = focus.mixtures(vectors, shared, wanted, cfg.model.vocab_size)
        status.update("writing the weights")
        size = vocabulary_plan.rows(new.size, asked.multiple)
        padding = old.size if old.size < cfg.model.vocab_size else old.id_of("unk_token")

        def replace(name: str, table: torch.Tensor) -> torch.Tensor:
            seed = cfg.run.seed + MATRICES.index(name)
            return focus.rows(table, old.size, size, shared, wanted, mixed, asked.start, padding, seed)

        replace_matrices(source, partial, key, size, replace)
        write_configs(source, partial, new, old, size)
        status.update("counting tokens a word")
        counted = {when: tokens_a_word(at, heldout, asked.megabytes) for when, at in (("before", source), ("after", partial))}
    runs.put_in_place(partial, to)
    run.finish(
        outputs={"hf": to},
        metrics={f"tokens_per_word_{when}": value for when, value in counted.items()},
        next=runs.command(
            cfg,
            "convert",
            "convert.to=nemo",
            "run.stage=tokenizer-import",
            runs.override("convert.source", to),
            f"model.vocab_size={size}",
        ),
        vocabulary={
            "before": old.size,
            "after": new.size,
            "rows": size,
            "shared": len(shared),
            "new": len(wanted),
            "start": asked.start.value,
            "counted_on": [str(path) for path in heldout],
            "tokens_of_a_mixture": None if mixed is None or not wanted else mixed.nnz / len(wanted),
            "examples": {} if mixed is None else examples(mixed, wanted, new, old),
        },
    )


def take(paths: list[Path], megabytes: float) -> Iterator[str]:
    """Documents of texts, as many megabytes of each in turn from its start as there are texts to share them."""
    for path in paths:
        left = megabytes * 1e6 / len(paths)
        for text in documents.documents(path):
            yield text
            left -= len(text.encode())
            if left <= 0:
                break


def encode(folder: Path, texts: Iterable[str]) -> Iterator[list[int]]:
    """Ids of texts without special tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for batch in batches(texts, BATCH, BATCH_CHARACTERS, len):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            yield encoding.ids


def tokens_a_word(folder: Path, paths: list[Path], megabytes: float) -> float:
    """Tokens for each word of texts: what stands between white space, punctuation and all; no special tokens."""
    words = sum(len(text.split()) for text in take(paths, megabytes))
    return sum(map(len, encode(folder, take(paths, megabytes)))) / max(words, 1)


def write_tokenizer(given: Path, source: Path, to: Path, old: Vocabulary) -> Vocabulary:
    """The new tokenizer's files, with the model's chat template where it brings none and the model's special tokens at its end
    where it lacks them. Returns its vocabulary."""
    for name in nemo.DESCRIPTION:
        if name not in MODEL_FILES and (given / name).is_file():
            shutil.copy(given / name, to / name)
    missing = vocabulary_plan.lacking(tokens.read(to, "convert.tokenizer"), old)
    if missing:
        from transformers import AddedToken, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(to), use_fast=True, trust_remote_code=False)
        added = [AddedToken(name, special=True, normalized=False) for name in missing]
        tokenizer.add_special_tokens({tokens.CHAT_ROLES: added}, replace_additional_special_tokens=False)
        tokenizer.save_pretrained(str(to))
    described = json.loads((to / "tokenizer_config.json").read_text())
    if not described.get("chat_template") and not any((to / name).is_file() for name in TEMPLATES):
        for name in TEMPLATES:
            if (source / name).is_file():
                shutil.copy(source / name, to / name)
        template = json.loads((source / "tokenizer_config.json").read_text()).get("chat_template")
        if template:
            _write(to / "tokenizer_config.json", {**described, "chat_template": template})
    return tokens.read(to, "convert.tokenizer")


def write_configs(source: Path, to: Path, new: Vocabulary, old: Vocabulary, size: int) -> None:
    """`config.json` and `generation_config.json` with the new size and ids of special tokens."""
    renamed: dict[int, int] = {}
    for number, before in tokens.shared(new, old).items():
        renamed.setdefault(before, number)  # where two stand for one, as PAD and EOS may
    for name in MODEL_FILES:
        if not (source / name).is_file():
            continue
        values = json.loads((source / name).read_text())
        for key, value in values.items():
            if key.endswith("_token_id") and value is not None:
                role = key.removesuffix("_id")
                was, now = old.id_of(role), new.id_of(role)
                own = {was: now} if was is not None and now is not None else {}
                values[key] = _renamed(value, renamed | own, now)
        if name == "config.json":
            values["vocab_size"] = size
        _write(to / name, values)


def _renamed(value: Any, renamed: dict[int, int], otherwise: int | None) -> Any:
    if isinstance(value, list):
        kept = [renamed[one] for one in value if one in renamed]
        return kept or otherwise
    return renamed.get(value, otherwise)


def replace_matrices(source: Path, to: Path, key: str, rows: int, replace: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Copy the weights of a folder, its embeddings by `replace(name, matrix)` of `rows` rows; one in memory at a time."""
    grown = 0
    for shard in weights.shards(source, key):
        with safe_open(shard, "pt") as file:
            here = [name for name in MATRICES if name in file.keys()]

            def replaced(name: str, file: Any = file) -> torch.Tensor:
                return replace(name, file.get_tensor(name))

            if here:
                grown += shards.rewrite(shard, to / shard.name, rows, here, replaced)
        if not here:
            shutil.copyfile(shard, to / shard.name)
    index = source / weights.INDEX
    if index.is_file():
        values = json.loads(index.read_text())
        before = sum(tensor.stop - tensor.start for tensor in hf_folder.stored(source, key).values())
        values["metadata"] = {**(values.get("metadata") or {}), "total_size": before + grown}
        values["metadata"].pop("total_parameters", None)
        _write(to / index.name, values)


def examples(mixed, wanted: list[int], new: Vocabulary, old: Vocabulary) -> dict[str, dict[str, float]]:
    """Some new tokens with the old ones that they are made of, for a person to read."""
    by_model: dict[str, dict[str, float]] = {}
    for rank in range(0, len(wanted), max(1, len(wanted) // SHOWN)):
        text, row = new.texts[wanted[rank]], mixed[rank]
        if text is None:  # an id that no token has
            continue
        largest = sorted(zip(row.data, row.indices, strict=True), reverse=True)[:3]
        by_model[text] = {old.texts[number] or "": round(float(weight), 3) for weight, number in largest}
    return by_model


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
