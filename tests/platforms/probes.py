"""Smallest real uses of NeMo that each adjustment is needed by, for test_adjustments.py: one start, each probe in a fork.

python tests/platforms/probes.py FOLDER    prints one line of JSON for each run: {"probe", "without", "error"}
"""

import json
import os
import shutil
import signal
import sys
import traceback
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType, SimpleNamespace

from nemo_plugins import runs  # noqa: F401 - saving a checkpoint spawns a process that imports this file: runs ends it with its probe

# For each adjustment a probe that fails without it.
NEEDED_BY = {
    "current_device": "train",
    "tensor_cuda": "train",
    "synchronize": "convert-mistral-float32",
    "stream": "train",
    "event": "generate",
    "long_tensor": "finetune",
    "logged_values": "train",
    "token_count": "train",
    "compiler": "fused_function",
    "gradient_clipping": "train",
    "fp32_optimizer": "train",
    "mixed_precision_optimizer": "train-bf16",
    "distributed_optimizer": "train-bf16-distributed",
    "loaded_tensors": "export",
    "exchanged_tensors": "tensor_from_another_rank",
    "modelopt_trainer": "drop_layers",
    "depth_pruning": "drop_layers",
    "random_states": "train",
    "recomputation": "recomputed_function",
    "modelopt_layers": "drop_layers",
    "converted_norms": "convert-mistral-float32",
    "norm_type": "convert-mistral-bfloat16",
    "sequence_parallel_norm": "tensor_parallel",
    "prunable_norm": "prune",
    "fused_kernels": "convert-llama-float32",
    "attention": "local_attention",
    "adapted_layers": "adapted_layer",
    "optimizer_step": "data_parallel",
}
CONVERSIONS = tuple(f"convert-{kind}-{dtype}" for kind in ("mistral", "llama") for dtype in ("float32", "bfloat16"))
SEQ_LENGTH = 32
TEACHER = Path("nemo-mistral-float32")
TOKENIZER = Path("hf-mistral-float32")


def write_hf_folder(folder: Path, kind: str, dtype: str) -> None:
    """A random Mistral or Llama of 4 layers whose norms are far from 1, with a tokenizer of one word an id."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    vocabulary = [*special.values(), *(f"w{i}" for i in range(len(special), 256))]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)

    shape = dict(vocab_size=256, hidden_size=128, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4)
    shape |= dict(num_key_value_heads=2, head_dim=32, max_position_embeddings=64, initializer_range=0.2)
    torch.manual_seed(0)
    if kind == "mistral":
        model = MistralForCausalLM(MistralConfig(sliding_window=None, **shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


def convert(kind: str, dtype: str) -> None:
    """Hugging Face → NeMo → Hugging Face: every tensor comes back bit for bit, in its own type."""
    from nemo.collections import llm
    from nemo.collections.llm.gpt.model.mistral import HFMistralImporter

    read_config = HFMistralImporter.config.fget

    def config(self):
        # NeMo takes seq_length and the window from sliding_window, which is null in the models that we care about.
        read = read_config(self)
        read.seq_length = read.__io__.seq_length = 64
        return read

    HFMistralImporter.config = property(config)
    name = f"{kind}-{dtype}"
    write_hf_folder(Path(f"hf-{name}"), kind, dtype)
    model = llm.MistralModel(llm.MistralConfig7B()) if kind == "mistral" else llm.LlamaModel(llm.Llama2Config7B())
    llm.import_ckpt(model, f"hf://{Path(f'hf-{name}').absolute()}", output_path=Path(f"nemo-{name}"), overwrite=True)
    expect_same_tensors(export(Path(f"nemo-{name}")), Path(f"hf-{name}"))


def export(checkpoint: Path = TEACHER) -> Path:
    from nemo.collections import llm

    folder = Path(f"exported-{checkpoint}")
    llm.export_ckpt(checkpoint, "hf", folder, overwrite=True)
    return folder


def tensors(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def expect_same_tensors(got: Path, expected: Path) -> None:
    import torch

    ours, theirs = tensors(got), tensors(expected)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    changed = [name for name, value in theirs.items() if ours[name].dtype != value.dtype or not torch.equal(ours[name], value)]
    assert not changed, f"changed: {changed}"


def corpus():
    """Megatron's own data on random text of 100 documents."""
    import numpy as np
    import torch
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder
    from nemo.collections import llm
    from nemo.collections.common.tokenizers import AutoTokenizer

    if not Path("corpus.idx").exists():
        numbers = np.random.default_rng(0)
        builder = IndexedDatasetBuilder("corpus.bin", dtype=DType.optimal_dtype(256))
        for _ in range(100):
            document = torch.from_numpy(numbers.integers(4, 256, 50))
            builder.add_document(document, [len(document)])
        builder.finalize("corpus.idx")
    return llm.PreTrainingDataModule(
        paths=["corpus"], split="8,1,1", index_mapping_dir="index", tokenizer=AutoTokenizer(str(TOKENIZER)),
        seq_length=SEQ_LENGTH, micro_batch_size=1, global_batch_size=1, num_workers=0, pin_memory=False,
    )  # fmt: skip


def trainer(steps: int, precision: str = "32", distributed_optimizer: bool = False):
    from megatron.core.distributed import DistributedDataParallelConfig
    from nemo import lightning as nl

    ddp = DistributedDataParallelConfig(use_distributed_optimizer=distributed_optimizer, grad_reduce_in_fp32=True)
    return nl.Trainer(
        devices=1, accelerator="cpu", max_steps=steps, limit_val_batches=0, num_sanity_val_steps=0, val_check_interval=1,
        log_every_n_steps=1, enable_progress_bar=False, use_distributed_sampler=False,
        strategy=nl.MegatronStrategy(ddp=ddp, ckpt_async_save=False, replace_progress_bar=False, sequence_parallel=False),
        plugins=nl.MegatronMixedPrecision(precision=precision),
    )  # fmt: skip


def optimizer(precision: str = "32", distributed_optimizer: bool = False):
    import torch
    from megatron.core.optimizer import OptimizerConfig
    from nemo import lightning as nl

    return nl.MegatronOptimizerModule(
        OptimizerConfig(
            optimizer="adam", lr=1e-3, clip_grad=1e-3, bf16=precision != "32", use_distributed_optimizer=distributed_optimizer,
            params_dtype=torch.float32 if precision == "32" else torch.bfloat16,
        )
    )  # fmt: skip


def logger(save: bool = False):
    from nemo import lightning as nl

    every = nl.ModelCheckpoint(
        save_last=True, save_top_k=1, every_n_train_steps=1, monitor="reduced_train_loss", save_optim_on_train_end=True
    )  # fmt: skip
    never = nl.ModelCheckpoint(save_last=False, save_top_k=0)
    return nl.NeMoLogger(name="run", log_dir="logs", use_datetime_version=False, ckpt=every if save else never)


def train(precision: str = "32", distributed_optimizer: bool = False, steps: int = 1, save: bool = False) -> None:
    from nemo import lightning as nl
    from nemo.collections import llm

    data = corpus()
    config = llm.MistralConfig7B(
        num_layers=1, hidden_size=32, ffn_hidden_size=64, num_attention_heads=2, num_query_groups=1, kv_channels=16,
        seq_length=SEQ_LENGTH, window_size=None, cp_comm_type=None, attention_dropout=0.1,
    )  # fmt: skip
    run = trainer(steps, precision, distributed_optimizer)
    resume = nl.AutoResume(resume_if_exists=True, resume_ignore_no_checkpoint=True) if save else None
    optim = optimizer(precision, distributed_optimizer)
    llm.pretrain(llm.MistralModel(config, tokenizer=data.tokenizer), data, run, log=logger(save), resume=resume, optim=optim)
    assert run.global_step == steps
    assert 3 < float(run.callback_metrics["reduced_train_loss"]) < 8


def train_and_resume() -> None:
    if not (child := os.fork()):  # NeMo keeps global state of a training: the second one starts in a process of its own
        train(steps=1, save=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the first training failed"
    train(steps=2, save=True)
    assert sum(1 for _ in Path("logs").rglob("*-last")) == 1


def prune() -> None:
    """Width and depth: the student's norms are some of the teacher's channels, and transformers can read it."""
    import torch
    from nemo.collections import llm
    from nemo.collections.llm.modelopt import PruningConfig

    target = PruningConfig(target_hidden_size=64, target_ffn_hidden_size=64, target_num_layers=3)
    llm.prune(str(TEACHER), "pruned", target, data=corpus(), num_train_samples=2)
    student, teacher = tensors(export(Path("pruned"))), tensors(TOKENIZER)
    norm, whole = student["model.norm.weight"], teacher["model.norm.weight"]
    assert norm.shape == (64,) and student["model.layers.2.mlp.up_proj.weight"].shape == (64, 64)
    assert torch.isin(norm, whole.to(norm.dtype)).all() and "model.layers.3.input_layernorm.weight" not in student


def drop_layers() -> None:
    from nemo.collections import llm
    from nemo.collections.llm.modelopt import PruningConfig

    llm.prune(str(TEACHER), "dropped", PruningConfig(drop_layers=[2, 3]))
    kept = tensors(export(Path("dropped")))
    assert {name.split(".")[2] for name in kept if ".layers." in name} == {"0", "1"}


def distill(precision: str) -> None:
    """A student that is its teacher has nothing to learn."""
    from nemo.collections import llm

    data, run = corpus(), trainer(1, precision)
    optim = optimizer(precision)
    llm.distill(str(TEACHER), str(TEACHER), data, run, log=logger(), optim=optim, tokenizer=data.tokenizer)
    assert abs(float(run.callback_metrics["reduced_train_loss"])) < 1e-2


def generate() -> None:
    """NeMo's static engine says what transformers says."""
    import torch
    from megatron.core.inference.common_inference_params import CommonInferenceParams
    from megatron.core.transformer.enums import AttnBackend
    from nemo import lightning as nl
    from nemo.collections.llm import inference
    from transformers import AutoModelForCausalLM

    exact = dict(params_dtype=torch.float32, pipeline_dtype=torch.float32, autocast_enabled=False)
    strategy = nl.MegatronStrategy(ckpt_load_optimizer=False, setup_optimizers=False, store_optimizer_states=False)
    plugin = nl.MegatronMixedPrecision(precision="32", **exact)
    run = nl.Trainer(devices=1, accelerator="cpu", strategy=strategy, plugins=plugin, enable_progress_bar=False, logger=False)
    options = dict(params_dtype=torch.float32, inference_max_seq_length=64, attention_backend=AttnBackend.local)
    model, tokenizer = inference.setup_model_and_tokenizer(TEACHER, run, **options)
    greedy = CommonInferenceParams(num_tokens_to_generate=8, top_k=1)
    (ours,) = inference.generate(model, tokenizer, ["w5 w9 w13 w20"], inference_params=greedy, max_batch_size=1)
    reference = AutoModelForCausalLM.from_pretrained(TOKENIZER).eval()
    prompt = torch.tensor([[5, 9, 13, 20]])
    theirs = reference.generate(prompt, do_sample=False, max_new_tokens=8, eos_token_id=None, pad_token_id=3)[0, 4:].tolist()
    assert list(map(int, ours.generated_tokens)) == theirs


def finetune() -> None:
    from nemo.collections import llm
    from nemo.collections.common.tokenizers import AutoTokenizer
    from nemo.lightning import io

    Path("qa").mkdir(exist_ok=True)
    for split in ("training", "validation", "test"):
        Path(f"qa/{split}.jsonl").write_text(8 * (json.dumps({"input": "w5 w6 w7", "output": "w8 w9"}) + "\n"))
    tokenizer = AutoTokenizer(str(TOKENIZER), use_fast=True)
    data = llm.FineTuningDataModule(
        dataset_root="qa", tokenizer=tokenizer, seq_length=SEQ_LENGTH, micro_batch_size=2, global_batch_size=2, num_workers=0,
        pin_memory=False, memmap_workers=1,
    )  # fmt: skip
    model = llm.MistralModel(io.load_context(TEACHER / "context", subpath="model").config, tokenizer=tokenizer)
    llm.finetune(model, data, trainer(1), log=logger(), optim=optimizer(), tokenizer=tokenizer)


def tensor_from_another_rank() -> None:
    """What a rank makes ready for a tensor that another data-parallel rank has loaded (exchange_utils.py:72)."""
    import torch
    from megatron.core.dist_checkpointing.exchange_utils import _get_empty_tensor_for_exchange

    class Shard:
        data = None

        def init_data(self, device):
            self.data = torch.empty(2, device=device)

    loaded = {}
    _get_empty_tensor_for_exchange("name", {"name": Shard()}, {}, loaded)
    assert loaded["name"].shape == (2,) and loaded["name"].device.type == "cpu"


def fused_function() -> None:
    """Megatron's fused SwiGLU does not set off torch.compile, which costs a minute and a C++ compiler."""
    import torch
    import torch._dynamo
    from megatron.core.fusions.fused_bias_swiglu import swiglu

    gate, up = torch.randn(3, 8), torch.randn(3, 8)
    assert torch.allclose(swiglu(torch.cat([gate, up], -1)), torch.nn.functional.silu(gate) * up)
    assert not torch._dynamo.utils.counters["frames"], torch._dynamo.utils.counters["frames"]


def recomputed_function() -> None:
    """Megatron's activation recomputation: dropout falls alike in both passes, so the gradient is that of the first."""
    import torch
    from megatron.core.tensor_parallel.random import checkpoint

    given = torch.randn(64, requires_grad=True)
    result = checkpoint(lambda x: torch.dropout(x, 0.5, True) * 3, False, given)
    result.sum().backward()
    assert torch.equal(given.grad != 0, result != 0) and 0 < int((result == 0).sum()) < 64


def local_attention() -> None:
    """Attention of the local layers keeps nothing that grows with the square of the length."""
    import torch
    from megatron.core import parallel_state
    from megatron.core.transformer.dot_product_attention import DotProductAttention
    from test_attention import HEADS, layer

    parallel_state._set_global_memory_buffer()
    length, kept = 512, []
    given = [torch.randn(length, 1, HEADS, 8, requires_grad=True) for _ in range(3)]
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        DotProductAttention.forward(layer(HEADS), *given, None)
    assert kept and max(kept) < length**2, f"{max(kept):,} numbers are kept for {length} tokens"


def in_two_processes(layout: str) -> None:
    import two_processes

    getattr(two_processes, layout)()


def adapted_layer() -> None:
    """NeMo's LoRA gets as far as saying that a layer is none of Megatron's."""
    import torch
    from nemo.collections.llm.peft import LoRA

    layer = torch.nn.Identity()
    layer.config = SimpleNamespace(sequence_parallel=False)
    try:
        LoRA(target_modules=["linear_qkv"]).transform(layer, "linear_qkv", "module")
    except NotImplementedError as error:
        assert "unrecognized" in str(error), error
    else:
        raise AssertionError("an Identity became an adapted layer")


def seed_differs_by_rank() -> None:
    """Two tensor-parallel ranks draw different shards, and what is drawn there leaves the common generator alone."""
    import torch
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    draws = []
    for rank in (0, 1, 0):
        parallel_state.set_tensor_model_parallel_rank(rank)
        torch.manual_seed(1)
        tracker = CudaRNGStatesTracker()
        with tracker.fork():
            first = torch.rand(3)
        with tracker.fork():
            second = torch.rand(3)
        draws.append((first, second, torch.rand(3)))
    assert torch.equal(draws[0][0], draws[2][0]) and not torch.equal(draws[0][0], draws[1][0])
    assert not torch.equal(draws[0][0], draws[0][1])  # the state goes on
    assert torch.equal(draws[0][2], draws[1][2])


def snapshot(*packages: str) -> dict[str, int]:
    """The identity of everything that an adjustment could change: names of modules and classes, and the code of functions."""
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in packages and hasattr(module, "__dict__"):
            for name, value in list(vars(module).items()):
                found[f"{module_name}.{name}"] = id(value)
                # type() and not isinstance(): NeMo's placeholders for what is not installed raise when asked for __class__.
                inside = vars(value).items() if issubclass(type(value), type) else [("", value)]
                for attribute, member in list(inside):
                    member = member.__func__ if type(member) in (classmethod, staticmethod) else member
                    found[f"{module_name}.{name}.{attribute}"] = id(member)
                    if type(member) is FunctionType:
                        found[f"{module_name}.{name}.{attribute} code"] = id(member.__code__)
    return found


def nothing_missing() -> None:
    """With a device and Transformer Engine only its norms are touched; with a device alone nothing of torch is."""
    from nemo_plugins import platforms
    from nemo_plugins.platforms import without_transformer_engine

    names = tuple(adjustment.name for adjustment in without_transformer_engine.adjustment.all)
    everything, torch_alone = ("torch", "nemo", "megatron", "modelopt"), ("torch",)
    platforms.has_cuda = platforms.has_transformer_engine = lambda: True
    before = snapshot(*everything)
    assert platforms.prepare() == platforms.Platform("gpu", True, ("norm_state",))
    after = snapshot(*everything)
    norm = "megatron.core.extensions.transformer_engine.TENorm.__new__"  # other modules have it by other names, too
    assert {after.get(name) for name in before if after.get(name) != before[name]} == {after[norm], after[f"{norm} code"]}
    platforms.prepare.cache_clear()
    platforms.has_transformer_engine = lambda: False
    before, torch_before = snapshot(*everything), snapshot(*torch_alone)
    assert platforms.prepare() == platforms.Platform("gpu", False, names)
    assert snapshot(*torch_alone) == torch_before
    after = snapshot(*everything)
    assert after != before  # the snapshot can see
    assert platforms.prepare() is platforms.prepare() and snapshot(*everything) == after  # a second call does nothing


PROBES = {name: partial(convert, *name.split("-")[1:]) for name in CONVERSIONS} | {
    "export": export,
    "train": train,
    "train-bf16": partial(train, "bf16-mixed"),
    "train-bf16-distributed": partial(train, "bf16-mixed", True),
    "train_and_resume": train_and_resume,
    "prune": prune,
    "drop_layers": drop_layers,
    "distill-32": partial(distill, "32"),
    "distill-bf16": partial(distill, "bf16-mixed"),
    "generate": generate,
    "finetune": finetune,
    "fused_function": fused_function,
    "recomputed_function": recomputed_function,
    "local_attention": local_attention,
    "data_parallel": partial(in_two_processes, "data_parallel"),
    "tensor_parallel": partial(in_two_processes, "tensor_parallel"),
    "gathered": partial(in_two_processes, "gathered"),
    "adapted_layer": adapted_layer,
    "tensor_from_another_rank": tensor_from_another_rank,
    "seed_differs_by_rank": seed_differs_by_rank,
}


def run_in_fork(function, folder: Path) -> str | None:
    """Run a function in its own process and folder. Returns: None, or the last line of what went wrong."""
    report = folder / "output.log"
    if not (child := os.fork()):
        os.chdir(folder)
        output = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.alarm(120)
        try:
            function()
        except BaseException:
            traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    lines = [line for line in report.read_text(errors="replace").splitlines() if line.strip()]
    return (lines or [f"ended with status {status}"])[-1] if status else None


def adjusted(probe, without: str | None, artifacts: Path) -> None:
    for artifact in (TEACHER, TOKENIZER):
        if (artifacts / artifact).exists():
            shutil.copytree(artifacts / artifact, artifact, dirs_exist_ok=True)
    from nemo_plugins.platforms import without_cuda, without_transformer_engine

    for part in (without_cuda, without_transformer_engine):
        part.apply({without} & {adjustment.name for adjustment in part.adjustment.all})
    probe()


def main(folder: Path) -> None:
    from nemo_plugins import platforms

    platforms.hide([platforms.TRANSFORMER_ENGINE, *platforms.APEX])
    # Before any fork, so that NeMo is imported once; not at the top, since saving a checkpoint imports this file again.
    for library in ("nemo.collections.llm.inference", "nemo.collections.llm.modelopt"):
        import_module(library)
    import torch

    torch.set_num_threads(1)
    teacher_run = folder / f"{CONVERSIONS[0]}-None"

    def tell(probe: str, without: str | None, function) -> None:
        here = folder / f"{probe}-{without}"
        here.mkdir()
        error = run_in_fork(function, here)
        print(json.dumps({"probe": probe, "without": without, "error": error}), flush=True)

    tell("nothing_missing", None, nothing_missing)
    for name, probe in PROBES.items():
        tell(name, None, partial(adjusted, probe, None, teacher_run))
    for without, name in NEEDED_BY.items():
        tell(name, without, partial(adjusted, PROBES[name], without, teacher_run))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main(Path(sys.argv[1]).absolute())
