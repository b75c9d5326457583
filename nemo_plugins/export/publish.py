"""`recipes/publish.py`: folders as a hub has them, one of weights and one of GGUF files; sent where that is asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe, Target
from nemo_plugins.evaluation import run_outputs
from nemo_plugins.models import nemo
from nemo_plugins.planning import publish_plan, quantize_plan
from nemo_plugins.planning.hf_folder import HfFolder
from nemo_plugins.planning.quantize_plan import GGUF
from nemo_plugins.planning.weights import INDEX
from nemo_plugins.reporting import lineage, model_card, scores
from nemo_plugins.reporting.model_card import Front
from nemo_plugins.reporting.page import PageTable, markdown
from nemo_plugins.runs.atomic import whole, write


def run(cfg: Recipe, run: runs.Run) -> None:
    """Make the folders; with `publish.push`, send them."""
    source = quantize_plan.read(cfg)
    run.input(source.path)
    repository, name = str(cfg.publish.repository), _name(cfg)
    folders = {repository: _weights(cfg, source, run.folder / "hub" / name)}
    ggufs = [target for target in cfg.publish.formats if target in GGUF]
    if ggufs:
        folders[f"{repository}-GGUF"] = _ggufs(cfg, source, run.folder / "hub" / f"{name}-GGUF", ggufs)
    if Target.fp8 in cfg.publish.formats:
        folders[f"{repository}-FP8"] = _fp8(cfg, source, run.folder / "hub" / f"{name}-FP8")
    to_send = folders.items() if cfg.publish.push else ()
    sent = {where: send(folder, where, cfg.publish.private) for where, folder in to_send}
    for where in folders:
        runs.say(f"{where}: {sent.get(where, 'not sent (publish.push=true sends it)')}")
    run.finish(
        outputs={folder.name: folder for folder in folders.values()},
        next=runs.command(cfg, "chat") if sent else runs.command(cfg, "publish", "publish.push=true", "force=true"),
        sent=sent,
    )


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


def card(cfg: Recipe, source: HfFolder, to: Path, front: Front, body: Iterable[str]) -> None:
    """Write the model card of a repository that holds `source`, or formats made of it."""
    root = runs.run_root(cfg)
    front = replace(front, licence=str(cfg.publish.licence), tags=(*front.tags, source.config["model_type"]))
    lines = [line for part in body for line in (part, "")]
    write(to / "README.md", model_card.text(cfg, lineage.read(root), scores.read(root), source.path, front, lines))


def _weights(cfg: Recipe, source: HfFolder, to: Path) -> Path:
    name = cfg.publish.repository
    asked = '[{"role": "user", "content": "…"}]' if run_outputs.has_chat_template(source.path) else '"…"'
    use = f'pipe = pipeline("text-generation", model="{name}")\nprint(pipe({asked})[0]["generated_text"])'
    body = ["## Use", f"```python\nfrom transformers import pipeline\n\n{use}\n```"]
    with whole(to) as folder:
        nemo.copy_description(source.path, folder)
        for shard in source.shards:
            link(shard, folder / shard.name)
        if (source.path / INDEX).is_file():
            shutil.copy(source.path / INDEX, folder)
        card(cfg, source, folder, Front(_title(cfg), base=publish_plan.base_model(cfg)), body)
    return to


def _ggufs(cfg: Recipe, source: HfFolder, to: Path, targets: list[Target]) -> Path:
    rows: list[list[str]] = []
    files: dict[str, Path] = {}
    for target in targets:
        file = publish_plan.quantised(cfg, target)
        called = f"{_name(cfg)}-{target.value.upper()}.gguf"
        files[called] = file
        note = file.resolve().parents[1] / f"{target.value}.json"
        numbers = json.loads(note.read_text()) if note.is_file() else {}
        measured = [
            f"{numbers[key]:{form}}" if key in numbers else ""
            for key, form in (("kl", ".5f"), ("top1", ".2%"), ("perplexity", ".3f"))
        ]
        rows.append([called, f"{file.stat().st_size / 1e6:,.1f}", *measured])
    body = [
        "Files for llama.cpp, each held after writing against the weights that it was made from, on held-out text:",
        "\n".join(markdown(PageTable(["file", "MB", "KL (nats a token)", "top-1", "perplexity"], rows))),
    ]
    with whole(to) as folder:
        for called, file in files.items():
            link(file, folder / called)
        card(cfg, source, folder, _quantised(cfg, library="gguf", tags=("gguf", "llama.cpp")), body)
    return to


def _fp8(cfg: Recipe, source: HfFolder, to: Path) -> Path:
    body = ["FP8 (e4m3): weights with a scale for each output channel, activations scaled token by token. For vLLM."]
    with whole(to) as folder:
        for file in sorted(publish_plan.quantised(cfg, Target.fp8).iterdir()):
            link(file, folder / file.name)
        card(cfg, source, folder, _quantised(cfg, tags=("fp8", "compressed-tensors", "vllm")), body)
    return to


def _name(cfg: Recipe) -> str:
    """The repository's without its owner's."""
    return str(cfg.publish.repository).partition("/")[2]


def _title(cfg: Recipe) -> str:
    return cfg.publish.title or _name(cfg)


def _quantised(cfg: Recipe, **more) -> Front:
    """The front of a quantisation of the published weights."""
    return Front(_title(cfg), base=cfg.publish.repository, relation="quantized", **more)


def link(file: Path, to: Path) -> None:
    """The same file under another name where the file system can, else a copy: weights are large and not written to again."""
    try:
        os.link(file.resolve(), to)
    except OSError:
        shutil.copy(file, to)
