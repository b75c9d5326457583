"""What an evaluation would do."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nemo_plugins.configs.schema import EvalBackend, EvalConfig, Lacking, Origin, Recipe
from nemo_plugins.evaluation import run_outputs
from nemo_plugins.planning import checks, eval_tasks, inputs, weights
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

DTYPES = (None, "auto", "float32", "bfloat16", "float16")
FROM_HUB = "tasks read data sets of the Hugging Face hub: without internet from its cache (HF_HOME, HF_DATASETS_OFFLINE=1)"
ANY_LANGUAGE = "heldout"  # the suite of no language
OWN = "laptop"  # the suite that any run can be held against: its stage is plainly `eval`


def stage(cfg: Recipe) -> str:
    """Folder of an evaluation that is not given one: a run may have several, one a suite."""
    return "eval" if cfg.eval.suite == OWN else f"eval-{cfg.eval.suite}"


def reads(cfg: Recipe) -> tuple[str, ...]:
    """Keys of the evaluation that decide what comes out; models that nobody names follow the run's stages (`stale`)."""
    names = [field.name for field in dataclasses.fields(EvalConfig) if field.name != "models" or cfg.eval.models]
    return tuple(f"eval.{name}" for name in names)


def stale(cfg: Recipe, summary: dict[str, Any]) -> bool:
    """Whether a finished evaluation is of other models than the run's stages have left by now; what is measured is kept."""
    return set(summary.get("asked", cfg.eval.models)) != set(cfg.eval.models)


def plan(cfg: Recipe) -> Plan:
    """Validate an evaluation, and fill in `eval.models` where none are named. Raises UserError naming the key."""
    made = cfg.eval
    _numbers(cfg)
    tasks = eval_tasks.chosen(made)
    if not made.models:
        made.models = run_outputs.derived(cfg)
    result = Plan(f"evaluate {', '.join(made.models)} on {made.suite}: {len(tasks)} tasks")
    if made.suite not in (*cfg.language.evaluation, ANY_LANGUAGE):
        suites = ", ".join((*cfg.language.evaluation, ANY_LANGUAGE))
        result.warnings.append(f"eval={made.suite} is no suite of language={cfg.language.code}: expected one of {suites}")
    _backend(cfg, result)
    _text(cfg, result)
    _tasks(cfg, result)
    for name, path in made.models.items():
        _model(cfg, result, name, path)
    need = sum(_bytes(path) for path in made.models.values() if paths.is_checkpoint(Path(path)))
    folder = paths.run_root(cfg) / (cfg.run.stage or stage(cfg))
    checks.room(result, cfg, folder, need)
    shots = {task.num_fewshot if task.num_fewshot is not None else made.num_fewshot for task in tasks.values()}
    rows = [
        ("suite", f"{made.suite}: {made.title}"),
        ("tasks", ", ".join(tasks)),
        ("examples", ", ".join("the task's own" if shot is None else str(shot) for shot in sorted(shots, key=str))),
        ("chat template", "applied" if made.chat_template else "not applied"),
        ("items of a task", "all" if made.limit is None else f"the first {made.limit:,}"),
        ("models", "; ".join(f"{name}: {path}" for name, path in made.models.items())),
        ("intervals", f"{made.confidence:.0%}, {made.resamples:,} resamples"),
    ]
    result.tables.append(Table("Evaluation", rows, numbers=False))
    result.sizes = f"{len(tasks)} task{'s' * (len(tasks) != 1)}"
    return result


def _numbers(cfg: Recipe) -> None:
    made = cfg.eval
    if cfg.platform.nodes != 1:
        raise UserError(f"platform.nodes={cfg.platform.nodes}: an evaluation runs on one node", "expected platform.nodes=1")
    for name, least in (("limit", 1), ("num_fewshot", 0), ("batch_size", 1), ("max_length", 2), ("resamples", 100)):
        at_least(least, made, "eval", name)
    if not 0 < made.confidence < 1:
        raise UserError(f"eval.confidence={made.confidence:g}: expected a number between 0 and 1")
    if made.dtype not in DTYPES:
        raise UserError(f"eval.dtype={made.dtype}: expected one of {', '.join(map(str, DTYPES[1:]))}, or null")
    for name, task in made.tasks.items():
        if task.metric.count(",") != 1:
            raise UserError(f"eval.tasks.{name}.metric={task.metric}: expected lm-eval's metric and filter, e.g. acc,none")
        if task.baseline is not None and not 0 <= task.baseline < 1:
            raise UserError(f"eval.tasks.{name}.baseline={task.baseline:g}: expected 0 to below 1, or null for none")
    if not made.tasks:
        raise UserError(f"eval={made.suite} has no tasks")
    for name in made.models:
        if not name or "/" in name or name.startswith("."):
            raise UserError(f"eval.models: {name!r} cannot name a folder", "expected e.g. +eval.models={sft: runs/x/sft-hf/hf}")


def _text(cfg: Recipe, made: Plan) -> None:
    """The text of `heldout_bits_per_byte`, where it is not the bundled one; it may be of `data.heldout`."""
    sources, lacked = cfg.eval.heldout_text, len(made.missing)
    if not sources:
        return
    inputs.data(made, cfg, sources, "eval.heldout_text", "data.heldout")
    for source in sources if len(made.missing) == lacked else ():
        if not paths.resolve(source).is_file():
            raise UserError(
                f"eval.heldout_text: {source} is no file of text",
                "expected .jsonl[.gz|.zst] with a text field a line: eval.heldout_text=[<file>], or another suite, eval=laptop",
            )


def _backend(cfg: Recipe, made: Plan) -> None:
    backend = cfg.eval.backend
    if backend is EvalBackend.vllm and find_spec("vllm") is None:
        made.lack("device", "eval.backend=vllm: vllm is not installed", "expected: pip install vllm, or hf")
    if backend is EvalBackend.endpoint:
        if find_spec("tenacity") is None:
            lacks = ("eval.backend=endpoint: lm-eval wants the package tenacity for it", "expected: pip install tenacity")
            made.lack("device", *lacks)
        if not cfg.eval.endpoint.url:
            raise UserError(
                "eval.backend=endpoint: eval.endpoint.url is not given", "expected e.g. http://node7:8000/v1/completions"
            )
        if len(cfg.eval.models) != 1:
            raise UserError(
                f"eval.backend=endpoint serves one model, eval.models has {len(cfg.eval.models)}",
                "expected one, whose folder has the tokenizer: +eval.models={sft: <folder>}",
            )


def _tasks(cfg: Recipe, made: Plan) -> None:
    if cfg.eval.missing is Lacking.skip:
        absent = eval_tasks.lacking(cfg.eval)
        if len(absent) == len(eval_tasks.chosen(cfg.eval)):
            made.need("tasks", eval_tasks.check, cfg.eval)
        elif absent:
            made.warnings.append(f"left out, as eval.missing=skip says: {', '.join(absent)}")
        return
    made.need("tasks", eval_tasks.check, cfg.eval)
    fetched = [name for name, task in eval_tasks.chosen(cfg.eval).items() if task.origin is not Origin.ours]
    if fetched:
        made.hub = len(fetched)
        made.warnings.append(f"{len(fetched)} {FROM_HUB}")


def _model(cfg: Recipe, made: Plan, name: str, given: str) -> None:
    """The model is here and whole, and has a chat template where one is to be applied."""
    key = f"eval.models.{name}"
    path = paths.local_weights(given) if given else None
    if path is None and given.endswith(".gguf") and paths.resolve(given).is_file():
        path = run_outputs.described_by(paths.resolve(given))
    if path is None:
        said = paths.weights_missing(key, given) if given else f"{key} is not given"
        made.lack("weights", said)
        return
    if not paths.is_checkpoint(path):
        made.need("weights", weights.check, path, key)
    if not cfg.eval.chat_template or run_outputs.has_chat_template(path):
        return
    lacks = f"{key}: {given} has no chat template"
    if cfg.eval.missing is Lacking.skip:
        made.warnings.append(f"{lacks}; it is left out, as eval.missing=skip says")
        return
    made.lack(
        "weights",
        f"{lacks}, and eval.chat_template=true",
        "expected a tokenizer with one (chat_template.jinja), or",
        "  eval.chat_template=false, or eval.missing=skip to go on without this model",
    )


def _bytes(path: str) -> int:
    """Of the weights of a checkpoint, and so of its export."""
    return sum(file.stat().st_size for file in (Path(path) / "weights").rglob("*") if file.is_file())
