"""The parts of silicon.py, each a function in a process of its own; a figure is a line of JSON on standard output.

    python tests/gpu/silicon_parts.py PART

Reads SILICON_ROOT (folder of the runs) and SILICON_REHEARSAL (tiny sizes on the CPU).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent)]

from silicon import FIGURE, MACHINE, NOT_HERE  # noqa: E402

REHEARSAL = bool(os.environ.get("SILICON_REHEARSAL"))
ROOT = Path(os.environ.get("SILICON_ROOT", "runs/silicon")) / "runs"
VERSIONS = ("torch", "triton", "transformer-engine", "nemo-toolkit", "megatron-core", "nvidia-modelopt", "transformers")
TEXT = ("data.train=[assets/polish_text/train.jsonl.gz]", "data.heldout=[assets/polish_text/heldout.jsonl.gz]")
LENGTH, LAYERS, FFN, STEPS = (128, (4, 3), 384, 6) if REHEARSAL else (4096, (8, 6), 11264, 12)
STUDENT = (f"prune.num_layers={LAYERS[1]}", f"prune.ffn_hidden_size={FFN}")
SMALL = (
    "hidden_size=256",
    "ffn_hidden_size=512",
    "num_attention_heads=4",
    "num_query_groups=2",
    "head_dim=64",
    "vocab_size=4096",
)
WARM = 3  # steps that are not timed


def bielik(layers: int | None) -> list[str]:
    """The model's widths, of so many layers; in a rehearsal a model of nothing."""
    small = [f"model.{size}" for size in SMALL] if REHEARSAL else []
    return ["+model=bielik11b", *small, *([f"model.num_layers={layers}"] if layers else [])]


def platform() -> list[str]:
    if REHEARSAL:
        return ["platform=cpu", f"run.root={ROOT}"]
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "--id=0"]
    memory = float(subprocess.run(query, capture_output=True, text=True, check=True).stdout) / 1024
    return ["platform=gpu", "platform.devices=1", f"platform.gpu_memory_gib={memory:.1f}", f"run.root={ROOT}"]


def recipe(name: str, *overrides: str) -> None:
    """Run one to its end."""
    command = [sys.executable, f"recipes/{name}.py", *overrides, *platform()]
    print("+", *command, flush=True)
    subprocess.run(command, cwd=REPOSITORY, check=True)


def figure(name: str, value: float, unit: str = "", against: str = "", other: float | None = None) -> None:
    """`against`: what it was held against; `other`: its value, in the same unit."""
    print(FIGURE + json.dumps({"name": name, "value": value, "unit": unit, "against": against, "other": other}), flush=True)


def summary(stage: str) -> dict:
    return json.loads((ROOT / stage / "summary.json").read_text(encoding="utf-8"))


def metrics(stage: str, key: str) -> list[float]:
    """Its values of all logged steps."""
    lines = map(json.loads, (ROOT / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line[key] for line in lines if key in line]


def absent(package: str) -> None:
    """End as a part that this machine cannot run."""
    print(f"{package} is not installed or not usable here", flush=True)
    sys.exit(NOT_HERE)


def load(path: str):
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def machine() -> None:
    import torch

    device, memory = "a CPU", 0.0
    if not REHEARSAL and not torch.cuda.is_available():
        absent("a GPU that torch sees")
    if not REHEARSAL:
        found = torch.cuda.get_device_properties(0)
        device, memory = found.name, found.total_memory / 2**30
    versions = {"python": sys.version.split()[0]}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    print(
        MACHINE
        + json.dumps({"device": device, "memory_gib": round(memory, 1), "cuda": torch.version.cuda, "versions": versions})
    )
    figure("cores", os.cpu_count() or 0)


def te() -> None:
    try:
        import torch
        import transformer_engine.pytorch as engine
    except ImportError:
        absent("Transformer Engine")
    options = {"device": "cuda", "dtype": torch.bfloat16, "requires_grad": True}
    layer = engine.LayerNormLinear(256, 512, normalization="RMSNorm", bias=False, params_dtype=torch.bfloat16)
    x = torch.randn(64, 2, 256, **options)
    norm = torch.nn.functional.rms_norm(x.float(), (256,), layer.layer_norm_weight.float(), layer.eps)
    distance("RMSNorm and linear, relative distance", layer(x), norm @ layer.weight.float().T)
    attention = engine.DotProductAttention(8, 64, num_gqa_groups=4, attn_mask_type="causal", qkv_format="sbhd")
    q, k, v = (torch.randn(512, 2, heads, 64, **options) for heads in (8, 4, 4))
    heads_first = [t.permute(1, 2, 0, 3) for t in (q, k, v)]
    want = torch.nn.functional.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True).permute(2, 0, 1, 3)
    got = attention(q, k, v).view(512, 2, 8, 64)
    distance("attention, relative distance", got, want)
    ours, torchs = (torch.autograd.grad(out.float().square().sum(), (q, k, v)) for out in (got, want))
    for name, a, b in zip("qkv", ours, torchs, strict=True):
        distance(f"attention's gradient of {name}, relative distance", a, b)


def distance(name: str, a, b, most: float = 2e-2) -> None:
    found = ((a.float() - b.float()).norm() / b.float().norm()).item()
    figure(name, found, against="torch")
    assert found < most, f"{name}: {found}, expected below {most}"


def chain(name: str, packing: str) -> None:
    """tiny_pl from its Hugging Face folder to the aligned student's."""
    short = {"prune.calibration.samples": 64, "distill.max_steps": 40, "distill.validate_every": 40, "distill.warmup_steps": 4}
    aligned = {
        "sft.max_steps": 20,
        "sft.validate_every": 20,
        "dpo.max_steps": 10,
        "dpo.validate_every": 10,
        "grpo.max_steps": 4,
    }
    if REHEARSAL:
        short = {"prune.calibration.samples": 8, "distill.max_steps": 2, "distill.validate_every": 2, "distill.warmup_steps": 1}
        short |= {"distill.seq_length": 64, "data.heldout_samples": 16}
        aligned = {
            "sft.max_steps": 2,
            "sft.validate_every": 2,
            "dpo.max_steps": 2,
            "dpo.validate_every": 2,
            "grpo.max_steps": 1,
        }
        aligned |= {
            "sft.global_batch_size": 4,
            "sft.micro_batch_size": 2,
            "dpo.global_batch_size": 4,
            "dpo.micro_batch_size": 2,
            "grpo.prompts": 2,
        }
        aligned |= {"grpo.global_batch_size": 16, "grpo.micro_batch_size": 16, "grpo.refill": 0}
        aligned |= {"dpo.data": "[assets/chat_samples/preferences_heldout.jsonl.gz]"}
    aligned |= {"sft.warmup_steps": 1, "dpo.warmup_steps": 1, "grpo.warmup_steps": 0, "grpo.validate_every": 4}
    aligned |= {"sft.packing": packing}
    model = ("+model=tiny_pl", "experiment=laptop", f"run.name={name}")
    recipe("convert", *model, "convert.to=nemo")
    for stage in ("prune", "distill"):
        recipe(stage, *model, *(f"{key}={value}" for key, value in short.items()))
    for stage in ("sft", "dpo", "grpo"):
        recipe(stage, *model, *(f"{key}={value}" for key, value in aligned.items() if key.startswith(f"{stage}.")))
    recipe("convert", *model, "convert.to=hf", "run.stage=aligned-hf")
    figure("held-out loss before pruning", summary(f"{name}/prune")["metrics"]["loss_before"], "", "a CPU in fp32", 3.6260)
    losses = {stage: metrics(f"{name}/{stage}", "loss") for stage in ("distill", "sft", "dpo")}
    for stage, values in losses.items():
        figure(f"{stage} loss, first", values[0], "", *(("ln 2", 0.693147) if stage == "dpo" else ()))
        figure(f"{stage} loss, last", values[-1])
    assert all(abs(value) < 100 for values in losses.values() for value in values)
    assert (ROOT / name / "aligned-hf" / "hf" / "config.json").is_file()


def chain_te() -> None:
    chain("chain-te", "thd")


def chain_plain() -> None:
    if importlib.util.find_spec("transformer_engine"):
        absent("an environment without Transformer Engine")
    chain("chain-plain", "mask")


def random_teacher(name: str, layers: int | None) -> str:
    checkpoint = ROOT / name / "convert-import" / "checkpoint"
    if not checkpoint.is_dir():
        recipe("convert", *bielik(layers), "convert.random=true", f"run.name={name}")
        shutil.rmtree(checkpoint.with_name("hf"))  # of whole models as large as the checkpoint
    return f"teacher.path={checkpoint}"


def pruned(name: str, layers: int | None, *student: str) -> None:
    """Prune random weights of the model's widths at LENGTH tokens, and say what it took against the plan's."""
    from nemo_plugins import runs
    from nemo_plugins.planning import memory
    from nemo_plugins.runs.prepare import compose

    calibration = [f"prune.calibration.seq_length={LENGTH}", "prune.calibration.micro_batch_size=1", "data.heldout_samples=2"]
    samples = f"prune.calibration.samples={2 if REHEARSAL else 16}"
    overrides = [*bielik(layers), f"run.name={name}", *TEXT, *student, *calibration, samples]
    recipe("prune", *overrides, random_teacher(name, layers))
    cfg = compose([*overrides, *platform()])
    done = summary(f"{name}/prune")
    planned = memory.pruning(runs.architecture(cfg.model), LENGTH, cfg.platform).total
    figure("peak memory", done["peak_memory_bytes"] / 2**30, "GiB", "the plan", planned / 2**30)
    figure("seconds", done["seconds"], "s")
    figure("student's parameters", done["student"]["parameters"])


def wide_prune() -> None:
    pruned("wide", LAYERS[0], *STUDENT)


def full_prune() -> None:
    layers = 5 if REHEARSAL else None
    pruned("full", layers, *(STUDENT if REHEARSAL else ()))
    shutil.rmtree(ROOT / "full")  # 37 GB


def distillation() -> list[str]:
    sizes = {"seq_length": LENGTH, "micro_batch_size": 1, "global_batch_size": 8, "max_steps": STEPS, "validate_every": STEPS}
    files = {"warmup_steps": 2, "checkpoint_every": 1000, "keep_checkpoints": 1, "keep_best": "false", "log_every": 1}
    settings = [f"distill.{key}={value}" for key, value in (sizes | files).items()]
    return [*bielik(LAYERS[0]), "run.name=wide", *TEXT, *STUDENT, *settings, "data.heldout_samples=8"]


def wide_distill() -> None:
    from nemo_plugins import runs
    from nemo_plugins.planning import checks, memory
    from nemo_plugins.runs import sizes
    from nemo_plugins.runs.prepare import compose

    shutil.rmtree(ROOT / "full", ignore_errors=True)  # of a full-prune that was ended: the disk is for checkpoints now
    recipe("distill", *distillation(), random_teacher("wide", LAYERS[0]))
    cfg = compose([*distillation(), *platform()])
    planned = memory.training(
        sizes.student(cfg),
        cfg.distill,
        cfg.platform,
        checks.bytes_per_value(cfg),
        runs.architecture(cfg.model),
        checks.sharded(cfg),
    )
    figure("tokens a second", statistics.median(metrics("wide/distill", "tokens_per_second")[WARM:]), "tokens/s")
    if shares := metrics("wide/distill", "mfu")[WARM:]:
        figure("MFU", statistics.median(shares))
    figure("peak memory", max(metrics("wide/distill", "peak_memory_bytes")) / 2**30, "GiB", "the plan", planned.total / 2**30)
    losses = metrics("wide/distill", "loss")
    figure("loss, last", losses[-1], "", "the first", losses[0])


def distill_peer() -> None:
    """NeMo's own `llm.distill` with its own loss on the same checkpoints, sizes and steps, over random tokens."""
    seconds, peak = load("tests/gpu/nemo_distillation.py").run(
        ROOT / "wide" / "prune" / "checkpoint",
        ROOT / "wide" / "convert-import" / "checkpoint",
        length=LENGTH,
        batch=8,
        steps=STEPS,
        folder=ROOT / "wide" / "peer",
    )
    theirs = statistics.median(seconds[WARM:])
    ours = statistics.median(metrics("wide/distill", "step_seconds")[WARM:])
    figure("a distillation step", ours, "s", "NeMo's llm.distill", theirs)
    our_peak = max(metrics("wide/distill", "peak_memory_bytes")) / 2**30
    figure("its peak memory", our_peak, "GiB", "NeMo's llm.distill", peak / 2**30)


def kd() -> None:
    load("tests/gpu/kd_speed.py").run(figure, REHEARSAL)


def decode() -> None:
    load("tests/gpu/decode_speed.py").run(figure, REHEARSAL)


def exports() -> None:
    name = ("+model=tiny_pl", "experiment=laptop", "run.name=exports")
    few = ("export.imatrix.windows=2", "export.verify.windows=1", "export.verify.prompts=3", "export.verify.new_tokens=8")
    formats = "export.formats=[fp8]" if importlib.util.find_spec("cyllama") is None else "export.formats=[f16,q4_k_m,fp8]"
    recipe("quantize", *name, "export.source=assets/tiny_pl", formats, *few)
    size = sum(file.stat().st_size for file in (ROOT / "exports" / "quantize").rglob("*.safetensors"))
    before = (REPOSITORY / "assets" / "tiny_pl" / "model.safetensors").stat().st_size
    figure("FP8 folder", size / 2**20, "MiB", "its source", before / 2**20)
    if importlib.util.find_spec("lm_eval") is None:
        print("lm-eval is not installed: no evaluation")
        return
    recipe("eval", *name, "+eval.models={teacher: assets/tiny_pl}", "eval.limit=4", "eval.resamples=100")
    for task, score in sorted(summary("exports/eval")["tasks"].items())[:3]:
        figure(task, score["score"])


def rollouts() -> None:
    """Tokens a second of the completions of GRPO's own engine and of transformers, both of tiny_pl."""
    recipe("convert", "+model=tiny_pl", "convert.to=nemo", "run.name=rollouts")
    checkpoint, hf = ROOT / "rollouts" / "convert-import" / "checkpoint", REPOSITORY / "assets" / "tiny_pl"
    repeats, device, dtype = (1, "cpu", "float32") if REHEARSAL else (5, "cuda", "bfloat16")
    drawn = load("benchmarks/grpo.py").completions(checkpoint, hf, repeats, device, dtype)
    ours, theirs = (statistics.median(drawn[name]) for name in ("ours", "transformers"))
    figure("completions", ours, "tokens/s", "transformers' generate", theirs)


if __name__ == "__main__":
    began = time.monotonic()
    globals()[sys.argv[1].replace("-", "_")]()
    print(f"{sys.argv[1]} in {time.monotonic() - began:.0f} s")
