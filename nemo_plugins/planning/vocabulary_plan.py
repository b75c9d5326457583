"""What putting another tokenizer in place of a model's own would do."""

from __future__ import annotations

from nemo_plugins.configs.schema import Recipe, Start
from nemo_plugins.data import documents
from nemo_plugins.data.parallel_tokens import text_bytes
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.vocabulary import tokens
from nemo_plugins.models.vocabulary.tokens import Vocabulary
from nemo_plugins.planning import checks, inputs, tables
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table, gib
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

STAGE = "convert-tokenizer"
NEEDED = ("bos_token", "eos_token")
NEIGHBOURS = 10  # pairs that a token of text gives
PAIR = 64  # bytes that one takes while pairs are counted and scored
TOKEN = 4  # bytes of text


def plan(cfg: Recipe) -> Plan:
    """Validate a swap of tokenizers. Raises UserError naming the key."""
    asked, given = cfg.convert.vocabulary, str(cfg.convert.tokenizer)
    if not asked.megabytes > 0:
        raise UserError(f"convert.vocabulary.megabytes={asked.megabytes:g}: expected more than 0")
    at_least(1, asked, "convert.vocabulary", "multiple")
    checks.single_process(cfg.platform, "a conversion")
    made = Plan(f"another tokenizer for {cfg.model.name}, its embeddings from {asked.start.value}")
    source = inputs.source(made, cfg)
    new = made.need("weights", _read, given)
    for key, sources in (("text", asked.text if asked.start is Start.focus else None), ("heldout", asked.heldout)):
        if sources is not None:
            _texts(made, cfg, sources, f"convert.vocabulary.{key}", "data.train" if key == "text" else "data.heldout")
    before = Architecture.from_config(cfg.model)
    after = before
    if new:
        check(new, given)
        missing: list[str] = []
        if source:
            old = tokens.read(source, "convert.source" if cfg.convert.source else "model.path")
            missing = lacking(new, old)
            made.tables.append(_vocabulary(made, new, old, missing, before.vocab_size))
        size = rows(new.size + len(missing), asked.multiple)
        if source and asked.rows not in (None, size):
            raise UserError(
                f"convert.vocabulary.rows={asked.rows}: {new.size + len(missing):,} tokens, padded to a multiple of "
                f"{asked.multiple}, are {size:,} rows",
                f"expected a tokenizer of as many, or convert.vocabulary.rows={size}",
            )
        after = before.with_sizes(vocab_size=size)
    folder = paths.run_root(cfg) / (cfg.run.stage or STAGE)
    files = {"hf": after.parameters() * 2}
    need = memory(cfg, before, after)
    checks.room(made, cfg, folder, sum(files.values()))
    made.need("memory", checks.host_memory, need, "a new vocabulary")
    made.tables += [
        tables.sizes(before, after, ("before", "after")) if new else tables.sizes(before, None, ("before", "")),
        Table("Memory of this machine, estimated", [("a matrix of each kind, the text's pairs", gib(need))]),
        tables.writes(folder, files),
    ]
    made.sizes = f"vocabulary {before.vocab_size:,} to {after.vocab_size:,}" if new else ""
    return made


def rows(size: int, multiple: int) -> int:
    """Rows of the embeddings of so many tokens."""
    return -(-size // multiple) * multiple


def lacking(new: Vocabulary, old: Vocabulary) -> list[str]:
    """Special tokens of the old tokenizer that the new one has none for, by name or role, such as ChatML's; in their order."""
    has = set(tokens.shared(new, old).values())
    used = {old.id_of(role) for role in tokens.ROLES}
    return [name for name, number in sorted(old.special.items(), key=lambda one: one[1]) if number not in has | used]


def check(new: Vocabulary, given: str) -> None:
    """Raises UserError where a tokenizer lacks what a model cannot do without."""
    for role in NEEDED:
        if new.id_of(role) is None:
            raise UserError(
                f"convert.tokenizer: {given} has no {role}", f"expected a {role} in tokenizer_config.json and tokenizer.json"
            )
    if unused := new.texts.count(None):
        raise UserError(
            f"convert.tokenizer: {unused:,} of the ids of {given} below {new.size:,} are no token", "expected ids without gaps"
        )


def memory(cfg: Recipe, before: Architecture, after: Architecture) -> float:
    """Bytes: an old matrix as it is and in fp32, a new one likewise, and what a text's pairs of neighbours take at most."""
    matrix = (before.vocab_size + after.vocab_size) * before.hidden_size * 6
    asked = cfg.convert.vocabulary
    if asked.start is not Start.focus:
        return matrix
    sizes = [text_bytes(path) for path in map(paths.resolve, asked.text) if path.exists()]
    pairs = min(sum(sizes) or float("inf"), asked.megabytes * 1e6) / TOKEN * NEIGHBOURS
    return matrix + min(pairs, after.vocab_size**2) * PAIR


def _read(given: str) -> Vocabulary:
    folder = paths.resolve(given)
    if not folder.is_dir():
        raise UserError(f"convert.tokenizer: no folder {given}", "expected the folder of a tokenizer")
    return tokens.read(folder, "convert.tokenizer")


def _texts(plan: Plan, cfg: Recipe, sources: list[str], key: str, shared: str) -> None:
    inputs.data(plan, cfg, sources, key, shared)
    for source in sources:
        path = paths.resolve(source)
        if not path.exists() and path.with_name(f"{path.name}.bin").is_file():
            raise UserError(f"{key}: {source} are tokens of some tokenizer", f"expected text: {', '.join(documents.SUFFIXES)}")


def _vocabulary(plan: Plan, new: Vocabulary, old: Vocabulary, missing: list[str], old_rows: int) -> Table:
    if old.size > old_rows:
        raise UserError(
            f"the model's tokenizer has {old.size:,} tokens, its embeddings {old_rows:,} rows", "expected a row for each token"
        )
    both = tokens.shared(new, old)
    for role in tokens.ROLES:
        was, now = old.id_of(role), new.id_of(role)
        if was is not None and now is not None and was != now:
            plan.warnings.append(
                f"convert.tokenizer: {role} {new.roles[role]} is {now}, the model's {old.roles[role]} is {was}: "
                "config.json and generation_config.json get the new id; text that is tokens already does not fit"
            )
    rows = [
        ("tokens of the model's own", f"{old.size:,}"),
        ("tokens of the new one", f"{new.size + len(missing):,}"),
        ("that both have", f"{len(both) + len(missing):,}"),
    ]
    if missing:
        rows.append(("added to the new one", " ".join(missing)))
    return Table("Vocabulary", rows)
