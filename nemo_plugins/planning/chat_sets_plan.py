"""What `recipes/data.py corpus.task=chats` would do."""

from __future__ import annotations

from pathlib import Path

from nemo_plugins.configs.schema import CorpusEngine, CorpusTask, Recipe
from nemo_plugins.data.chat import messages, preferences
from nemo_plugins.planning import alignment_plan, chat_template_plan, checks, corpus_plan
from nemo_plugins.planning.plan import Plan, Table, gib
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

STAGES = {"sft": messages.check, "dpo": preferences.check}
UNPACKED = 4  # how much larger dialogues are than their compressed file
WORK = 3.0  # bytes of parts and sets for a byte of text: 5 bytes a token of about 3 characters, twice
READ = ("data", "heldout", "seq_length", "bad_rows")


def reads(cfg: Recipe) -> tuple[str, ...]:
    """Keys beside `corpus` that decide what comes out."""
    if cfg.corpus.task is not CorpusTask.chats:
        return ()
    return ("chat", "sft.learn", "sft.packing", *(f"{stage}.{key}" for stage in STAGES for key in READ))


def named(cfg: Recipe) -> list[str]:
    """The stages whose files are given."""
    return [stage for stage in STAGES if getattr(cfg, stage).data]


def plan(cfg: Recipe) -> Plan:
    """Validate the sets of both stages. Raises UserError naming the key."""
    planned = Plan(f"chats {cfg.run.name}: dialogues and preference pairs to {cfg.model.name}'s tokens")
    checks.single_process(cfg.platform, "recipes/data.py has processes of its own (corpus.workers) and")
    corpus_plan.numbers(cfg)
    if cfg.corpus.engine is CorpusEngine.slurm:
        corpus_plan.slurm(planned, cfg)
    stages = named(cfg)
    if not stages:
        planned.lack("data", "neither sft.data nor dpo.data names a file", "give sft.data=[<file>.jsonl.gz]", give="sft.data")
        return planned
    template = chat_template_plan.add(planned, cfg, stages[0])
    if template is None:
        planned.need("weights", tokenizer, cfg)
    size = 0.0
    for stage in stages:
        check = STAGES[stage]
        alignment_plan.files(planned, cfg, stage, template.guarded(check) if template else check)
        size += sum(_text(source) for source in (*getattr(cfg, stage).data, *getattr(cfg, stage).heldout))
    folder = paths.run_root(cfg)
    planned.need("disk", checks.disk, folder, size * WORK)
    where = "Slurm" if cfg.corpus.engine is CorpusEngine.slurm else f"this machine, {cfg.corpus.workers or 'all'} cores"
    rows = [
        *((f"{stage}.data", ", ".join(getattr(cfg, stage).data)) for stage in stages),
        ("text", f"about {gib(size)}"),
        ("longest", ", ".join(f"{getattr(cfg, stage).seq_length:,} tokens ({stage})" for stage in stages)),
        ("runs on", where),
    ]
    planned.tables.append(Table("Sets", rows, numbers=False))
    planned.sizes = f"about {gib(size)} of text"
    return planned


def tokenizer(cfg: Recipe) -> Path:
    """The folder with the tokenizer that the sets are written with. Raises UserError where none is here."""
    if (folder := chat_template_plan.described_by(cfg, named(cfg)[0])) is not None:
        return folder
    raise UserError(
        f"no checkpoint of this run has a tokenizer, and {paths.weights_missing('model.path', cfg.model.path)}"
        if cfg.model.path
        else "model.path is not given"
    )


def _text(source: str) -> float:
    """About how many bytes of text a file holds; 0 where it is not here."""
    path = paths.resolve(source)
    return path.stat().st_size * (1 if path.suffix == ".jsonl" else UNPACKED) if path.is_file() else 0.0
