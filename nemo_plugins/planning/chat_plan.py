"""Which model a dialogue is with: a run folder, a Hugging Face folder, a GGUF file or a server."""

from __future__ import annotations

from pathlib import Path

from nemo_plugins.configs.schema import Recipe, Target
from nemo_plugins.planning import bench_plan, chat_template_plan, checks, inputs, quantize_plan, weights
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

MAGIC = b"GGUF"


def plan(cfg: Recipe) -> Plan:
    """Validate a dialogue. Raises UserError naming the key."""
    made = _dialogue(cfg)
    found = made.need("earlier", model, cfg)
    if found and Path(found).is_dir():
        first = [{"role": "system", "content": system(cfg)}] if system(cfg) else []
        chat_template_plan.read(cfg, Path(found)).asked([*first, {"role": "user", "content": "?"}])
    return made


def _dialogue(cfg: Recipe) -> Plan:
    chat = cfg.chat
    at_least(1, chat, "chat", "new_tokens")
    if chat.temperature < 0 or not 0 < chat.top_p <= 1:
        raise UserError(
            f"chat.temperature={chat.temperature:g}, chat.top_p={chat.top_p:g}",
            "expected a temperature of 0 or more, and a top_p above 0 and at most 1",
        )
    if chat.context is not None and chat.context < 32:
        raise UserError(f"chat.context={chat.context}: expected at least 32 tokens")
    made = Plan(f"talk to {chat.model or cfg.run.name}")
    found = made.need("earlier", model, cfg)
    if found and Path(found).is_file():
        made.need("package", checks.package, "cyllama", "llama.cpp")
    rows = [("model", found or "not here"), ("/compare with", chat.compare or cfg.model.path)]
    made.tables.append(Table("Dialogue", [*rows, ("system prompt", system(cfg) or "none")], numbers=False))
    return made


def serve(cfg: Recipe) -> Plan:
    """Validate a server: as a dialogue, of a GGUF file. Raises UserError naming the key."""
    made = _dialogue(cfg)
    if not 1 <= cfg.chat.port <= 65535 or cfg.chat.parallel < 1:
        raise UserError(f"chat.port={cfg.chat.port}, chat.parallel={cfg.chat.parallel}: expected a port and at least 1")
    made.missing = []  # of the dialogue, whose model may be another
    made.need("package", checks.package, "xllamacpp", "llama.cpp's server")
    made.need("earlier", gguf, cfg)
    made.title = f"serve {cfg.chat.model or cfg.run.name} at http://{cfg.chat.host}:{cfg.chat.port}/v1"
    return made


def gguf(cfg: Recipe) -> Path:
    """The GGUF file to serve: `chat.model`, else the run's Q4_K_M. Raises UserError."""
    if not cfg.chat.model:
        return bench_plan.gguf(cfg, "student", Target.q4_k_m)
    where = Path(locate(cfg.chat.model, "chat.model"))
    if not where.is_file():
        raise UserError(
            f"chat.model: {cfg.chat.model} is no GGUF file", "expected what recipes/quantize.py writes; vLLM serves folders"
        )
    return where


def system(cfg: Recipe) -> str:
    """The system prompt: `chat.system`, else the language's."""
    return cfg.language.system_prompt if cfg.chat.system is None else cfg.chat.system


def model(cfg: Recipe) -> str:
    """Where the model is: a URL, a GGUF file or a Hugging Face folder. Raises UserError."""
    return locate(cfg.chat.model, "chat.model") if cfg.chat.model else str(quantize_plan.source(cfg))


def other(cfg: Recipe) -> str:
    """What `/compare` puts beside it: `chat.compare`, else the teacher. Raises UserError."""
    if cfg.chat.compare:
        return locate(cfg.chat.compare, "chat.compare")
    return str(inputs.model_weights(cfg.model.path, "model.path"))


def locate(given: str, key: str) -> str:
    """What a path means: a URL, a GGUF file, a Hugging Face folder, or of a run folder what its latest stage exported.

    Raises:
        UserError: none of them, or one that is not whole.
    """
    if given.startswith(("http://", "https://")):
        return given
    path = paths.resolve(given)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise UserError(f"{key}: {given} is no GGUF file", "expected a GGUF file, or a folder")
        return str(path)
    for folder in (path, path / "hf", *(path / stage / "hf" for stage in quantize_plan.SOURCES)):
        if (folder / "config.json").is_file():
            weights.check(folder, key)
            return str(folder)
    if hub := paths.local_weights(given):
        return _only_gguf(hub, given, key)
    raise UserError(
        f"{key}: nothing at {given}",
        "expected a GGUF file, a Hugging Face folder, a run folder, or the address of an OpenAI-compatible server",
    )


def _only_gguf(folder: Path, given: str, key: str) -> str:
    found = sorted([*folder.glob("*.gguf"), *folder.glob("gguf/*.gguf"), *folder.glob("quantize/gguf/*.gguf")])
    found = [file for file in found if file.name != "imatrix.gguf"]
    if len(found) == 1:
        return str(found[0])
    raise UserError(
        f"{key}: {given} holds {'several GGUF files' if found else 'no model'}",
        f"name one: {', '.join(str(file) for file in found)}" if found else "expected config.json and weights, or GGUF files",
    )
