"""`recipes/publish.py`: folders as a hub has them, one of weights and one of GGUF files; sent where that is asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe, Target
from nemo_plugins.models import nemo
from nemo_plugins.planning import publish_plan, quantize_plan
from nemo_plugins.planning.hf_folder import HfFolder
from nemo_plugins.planning.quantize_plan import GGUF
from nemo_plugins.runs.folder import put_in_place, write


def run(cfg: Recipe, run: runs.Run) -> None:
    """Make the folders; with `publish.push`, send them."""
    source = quantize_plan.read(cfg)
    run.input(source.path)
    name = cfg.publish.repository.split("/")[1]
    made = {cfg.publish.repository: _weights(cfg, source, run.folder / "hub" / name)}
    ggufs = [target for target in cfg.publish.formats if target in GGUF]
    if ggufs:
        made[f"{cfg.publish.repository}-GGUF"] = _ggufs(cfg, source, run.folder / "hub" / f"{name}-GGUF", ggufs)
    if Target.fp8 in cfg.publish.formats:
        made[f"{cfg.publish.repository}-FP8"] = _fp8(cfg, source, run.folder / "hub" / f"{name}-FP8")
    sent = (
        {repository: send(folder, repository, cfg.publish.private) for repository, folder in made.items()}
        if cfg.publish.push
        else {}
    )
    for repository in made:
        runs.say(f"{repository}: {sent.get(repository, 'not sent (publish.push=true sends it)')}")
    run.finish(outputs={folder.name: folder for folder in made.values()}, sent=sent)


def send(folder: Path, repository: str, private: bool) -> str:
    """Upload a folder with the token of the environment. Returns its address.

    Raises:
        Failed: the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=os.environ[publish_plan.TOKEN])
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except (HfHubHTTPError, OSError) as error:
        raise runs.Failed(
            f"{repository}: the hub refuses: {error}", f"{folder} is whole; the same command tries again"
        ) from None
    return f"{api.endpoint}/{repository}"


def card(cfg: Recipe, source: HfFolder, *, library: str, base: str | None, tags: Iterable[str], body: Iterable[str]) -> str:
    """A model card: metadata that the hub reads, then what was measured.

    Args:
        library: what loads it, by the hub's name.
        base: hub id of the base, or None: the published weights themselves where this is a quantisation of them.
        body: further paragraphs.
    """
    asked, sizes = cfg.publish, source.architecture
    lines = ["---", f"license: {asked.licence}", f"language: {cfg.language.code}"]
    if base:
        relation = "quantized" if base == asked.repository else "finetune"
        lines += [f"base_model: {base}", f"base_model_relation: {relation}"]
    lines += [f"library_name: {library}", "pipeline_tag: text-generation"]
    lines += ["tags:", *(f"  - {tag}" for tag in tags), "---", ""]
    head_dim = f"{sizes.num_attention_heads} heads in {sizes.num_query_groups} groups of head_dim {sizes.head_dim}"
    origin = publish_plan.base_model(cfg)
    made = "Made with NVIDIA NeMo by pruning and distillation, the recipe of Bielik-Minitron (arXiv 2603.11881)"
    parts = [
        f"# {asked.title or asked.repository.split('/')[1]}",
        f"{sizes.parameters():,} parameters: {sizes.num_layers} layers, hidden {sizes.hidden_size}, "
        f"FFN {sizes.ffn_hidden_size}, {head_dim}, vocabulary {sizes.vocab_size}, context {sizes.context_length}. {made}"
        + (f", from [{origin}](https://huggingface.co/{origin})." if origin else "."),
        *body,
        *history(cfg),
    ]
    return "\n".join(lines) + "\n\n".join(parts) + "\n"


def history(cfg: Recipe) -> list[str]:
    """What the stages of the run measured of themselves, from their summaries."""
    rows = []
    for stage in ("prune", "distill", "sft", "dpo", "grpo"):
        folder = runs.find(cfg, stage)
        if folder:
            metrics = json.loads((folder / "summary.json").read_text())["metrics"]
            rows += [f"| {stage} | {key} | {value:.4f} |" for key, value in metrics.items() if isinstance(value, float)]
    table = "\n".join(["| stage | measured | |", "|---|---|---|", *rows])
    evaluated = runs.find(cfg, "eval")
    scores = []
    if evaluated:
        tasks = json.loads((evaluated / "summary.json").read_text()).get("tasks", {})
        scores = [
            f"| {name} | {values['score']:.4f} | {values['stderr']:.4f} |"
            for name, values in tasks.items()
            if values.get("stderr") is not None
        ]
    found = [f"## How it was made\n\n{table}"] if rows else []
    return found + (
        ["## Evaluation\n\n" + "\n".join(["| task | score | standard error |", "|---|---|---|", *scores])] if scores else []
    )


def _weights(cfg: Recipe, source: HfFolder, to: Path) -> Path:
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    nemo.copy_description(source.path, partial)
    for shard in source.shards:
        link(shard, partial / shard.name)
    index = source.path / "model.safetensors.index.json"
    if index.is_file():
        shutil.copy(index, partial)
    body = [
        "## Use\n\n```python\nfrom transformers import pipeline\n\n"
        f'pipe = pipeline("text-generation", model="{cfg.publish.repository}")\n'
        'print(pipe([{"role": "user", "content": "Napisz jedno zdanie o Wiśle."}])[0]["generated_text"])\n```'
    ]
    tags = [source.config["model_type"], "minitron", "pruned", "distilled"]
    write(
        partial / "README.md",
        card(cfg, source, library="transformers", base=publish_plan.base_model(cfg), tags=tags, body=body),
    )
    put_in_place(partial, to)
    return to


def _ggufs(cfg: Recipe, source: HfFolder, to: Path, targets: list[Target]) -> Path:
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    name = cfg.publish.repository.split("/")[1]
    rows = ["| file | MB | KL (nats a token) | top-1 | perplexity |", "|---|---|---|---|---|"]
    checked = runs.find(cfg, "quantize")
    for target in targets:
        file = publish_plan.quantised(cfg, target)
        called = f"{name}-{target.value.upper()}.gguf"
        link(file, partial / called)
        note = checked / f"{target.value}.json" if checked else None
        numbers = json.loads(note.read_text()) if note and note.is_file() else {}
        measured = [
            f"{numbers[key]:{form}}" if key in numbers else ""
            for key, form in (("kl", ".5f"), ("top1", ".2%"), ("perplexity", ".3f"))
        ]
        rows.append(f"| {called} | {file.stat().st_size / 1e6:,.1f} | {' | '.join(measured)} |")
    body = [
        "Files for llama.cpp, each held after writing against the weights that it was made from, on held-out text:",
        "\n".join(rows),
    ]
    base, tags = cfg.publish.repository, ["gguf", "llama.cpp", source.config["model_type"]]
    write(partial / "README.md", card(cfg, source, library="gguf", base=base, tags=tags, body=body))
    put_in_place(partial, to)
    return to


def _fp8(cfg: Recipe, source: HfFolder, to: Path) -> Path:
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in sorted(publish_plan.quantised(cfg, Target.fp8).iterdir()):
        link(file, partial / file.name)
    body = ["FP8 (e4m3): weights with a scale for each output channel, activations scaled token by token. For vLLM."]
    base, tags = cfg.publish.repository, ["fp8", "compressed-tensors", "vllm", source.config["model_type"]]
    write(partial / "README.md", card(cfg, source, library="transformers", base=base, tags=tags, body=body))
    put_in_place(partial, to)
    return to


def link(file: Path, to: Path) -> None:
    """The same file under another name where the file system can, else a copy: weights are large and not written to again."""
    try:
        os.link(file.resolve(), to)
    except OSError:
        shutil.copy(file, to)
