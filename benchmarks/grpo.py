"""Training by rewards beside its peers: completions beside transformers.generate, whole steps beside TRL's GRPOTrainer.

    python benchmarks/grpo.py --root runs [--run tiny_pl-laptop] [--repeats 5] [--steps 6] [OVERRIDE …]

Takes what `experiment=laptop` left: its DPO student as a NeMo checkpoint, exported here to a Hugging Face folder for the peers.

Completions: the same prompts, group, longest completion, temperature 1, weights in fp32, in one process and in turn; tokens
count up to the one that ends a completion. Encoding a prompt once for its group is ours alone: transformers encodes each row.
Steps: the same model, prompts, rewards, group, completions an update, longest completion, KL and rate, one update a rollout;
median seconds of all steps but the first of each, of which ours are told apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

PROMPTS, GROUP, LONGEST = 16, 8, 24
DATA = "assets/chat_samples/grpo_train.jsonl.gz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="runs")
    parser.add_argument("--run", default="tiny_pl-laptop")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for our steps")
    given = parser.parse_args()
    checkpoint, folder = Path(given.root, given.run, "dpo", "checkpoint"), Path(given.root, "grpo-benchmark")
    if not checkpoint.exists():
        sys.exit(f"{checkpoint} is not there: python recipes/minitron.py +model=tiny_pl experiment=laptop leaves it")
    recipe(
        given.root,
        "convert",
        "convert.to=hf",
        "convert.dtype=fp32",
        f"convert.source={checkpoint}",
        "run.name=grpo-benchmark",
        "run.stage=export",
    )
    hf = folder / "export" / "hf"
    ours = our_steps(given, checkpoint, folder)
    theirs = trl_steps(hf, given.steps)
    drawn = completions(checkpoint, hf, given.repeats)
    print(f"\n{PROMPTS} prompts x {GROUP}, at most {LONGEST} tokens\n")
    print("| completions | tokens/s | to transformers |\n|---|---:|---:|")
    for name, rates in drawn.items():
        ratios = [a / b for a, b in zip(rates, drawn["transformers"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {statistics.median(rates):,.0f} | {spread} |")
    print("\n| a step | seconds | to TRL |\n|---|---:|---:|")
    print(f"| TRL | {theirs:.2f} | 1.00 |")
    whole = sum(ours.values())
    print(f"| ours | {whole:.2f} | {whole / theirs:.2f} |")
    for name, seconds in ours.items():
        print(f"| ours, {name} | {seconds:.2f} | {seconds / theirs:.2f} |")
    found = {"completions": drawn, "step": {"ours": ours, "trl": theirs}}
    (folder / "grpo-benchmark.json").write_text(json.dumps(found, indent=2) + "\n")
    return 0


def recipe(root: str, name: str, *overrides: str) -> None:
    command = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=tiny_pl", "experiment=laptop"]
    subprocess.run([*command, f"run.root={root}", *overrides], check=True, stdout=subprocess.DEVNULL)


def our_steps(given: argparse.Namespace, checkpoint: Path, folder: Path) -> dict[str, float]:
    """Median seconds of drawing, of scoring, and of the update."""
    size = PROMPTS * GROUP
    recipe(
        given.root, "grpo", "run.name=grpo-benchmark", f"student.path={checkpoint}", f"grpo.max_steps={given.steps}",
        f"grpo.prompts={PROMPTS}", f"grpo.group_size={GROUP}", f"grpo.global_batch_size={size}", "grpo.refill=0",
        f"grpo.max_tokens={LONGEST}", f"grpo.micro_batch_size={size}", "grpo.lr=1e-6", "grpo.warmup_steps=0",
        f"grpo.validate_every={given.steps}", f"grpo.checkpoint_every={given.steps}", "force=true", *given.overrides,
    )  # fmt: skip
    lines = [json.loads(line) for line in (folder / "grpo" / "metrics.jsonl").read_text().splitlines()]
    rolled = [line for line in lines if "rollout_seconds" in line][1:]
    stepped = [line for line in lines if "step_seconds" in line][1:]
    return {
        "completions": statistics.median(line["rollout_seconds"] for line in rolled),
        "log-probabilities": statistics.median(line["score_seconds"] for line in rolled),
        "update": statistics.median(line["step_seconds"] for line in stepped),
    }


def trl_steps(hf: Path, steps: int) -> float:
    """Median seconds of TRL's steps."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from nemo_plugins.alignment.rewards.scoring import Scorer
    from nemo_plugins.data.chat import rows

    prompts = list(rows.read([REPOSITORY / DATA], checker(), rows.Report("data", "drop")))
    tokenizer = AutoTokenizer.from_pretrained(hf, padding_side="left")
    texts = [tokenizer.apply_chat_template(p.messages, add_generation_prompt=True, tokenize=False) for p in prompts]
    found = Dataset.from_dict({"prompt": texts, "reference": [p.reference for p in prompts], "kind": [p.kind for p in prompts]})
    scorer, times = Scorer(MIX), []

    def reward(prompts, completions, reference, kind, **_):
        return scorer.score(prompts, completions, reference, kind).totals

    class Clock(TrainerCallback):
        def on_step_begin(self, *_args, **_more):
            times.append(-time.monotonic())

        def on_step_end(self, *_args, **_more):
            times[-1] += time.monotonic()

    config = GRPOConfig(
        output_dir=str(hf.parent / "trl"), max_steps=steps, per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP,
        max_completion_length=LONGEST, learning_rate=1e-6, beta=0.001, temperature=1.0, report_to="none", save_strategy="no",
        logging_strategy="no", bf16=False, use_cpu=True, gradient_checkpointing=False, disable_tqdm=True, seed=1234,
        mask_truncated_completions=True, loss_type="grpo", scale_rewards="group",
    )  # fmt: skip
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(hf, torch_dtype="float32")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.eos_token_id = [end, tokenizer.eos_token_id]
    tokenizer.eos_token = "<|im_end|>"
    trainer = GRPOTrainer(
        model=model, reward_funcs=reward, args=config, train_dataset=found, processing_class=tokenizer, callbacks=[Clock()]
    )
    trainer.train()
    return statistics.median(times[1:])


MIX = {"boxed_math": {"boxed_math": 1.0, "boxed_format": 0.1}, "multiple_choice": {"multiple_choice": 1.0}}


def checker():
    from nemo_plugins.data.chat import prompts

    return prompts.checker(MIX)


def completions(
    checkpoint: Path, hf: Path, repeats: int, device: str = "cpu", dtype: str = "float32"
) -> dict[str, list[float]]:
    """Tokens a second of each repeat."""
    from nemo_plugins import platforms

    platforms.prepare()
    import torch
    from nemo.utils.model_utils import unwrap_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from nemo_plugins.alignment.rollouts import Request
    from nemo_plugins.alignment.rollouts.megatron import MegatronEngine
    from nemo_plugins.alignment.rollouts.sampling import uniforms
    from nemo_plugins.data.chat import prompts as chat_prompts
    from nemo_plugins.data.chat.template import ChatTemplate
    from nemo_plugins.models import conversion

    tokenizer = AutoTokenizer.from_pretrained(hf, padding_side="left")
    template = ChatTemplate(tokenizer)
    prompts, _ = chat_prompts.load(
        [REPOSITORY / DATA], template, chat_prompts.checker(MIX), key="data", policy="drop", longest=160
    )
    prompts = prompts[:PROMPTS]
    ends = sorted(template.ends)
    module, _trainer = conversion.load(checkpoint, getattr(torch, dtype))
    engine = MegatronEngine(unwrap_model(module).to(device).eval(), ends, PROMPTS * GROUP)
    model = AutoModelForCausalLM.from_pretrained(hf, torch_dtype=getattr(torch, dtype)).to(device).eval()
    rows = [prompt.ids for prompt in prompts for _ in range(GROUP)]
    batch = tokenizer.pad({"input_ids": [list(row) for row in rows]}, return_tensors="pt").to(device)
    found: dict[str, list[float]] = {"transformers": [], "ours": []}
    for repeat in range(-1, repeats):
        requests = [Request(ids, uniforms(repeat + 1, 0, at, LONGEST)) for at, ids in enumerate(rows)]
        start = time.monotonic()
        tokens = sum(len(one.ids) for one in engine.complete(requests))
        ours = tokens / (time.monotonic() - start)
        torch.manual_seed(repeat)
        start = time.monotonic()
        with torch.no_grad():
            made = model.generate(
                **batch, max_new_tokens=LONGEST, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=ends,
                pad_token_id=template.pad,
            )[:, batch["input_ids"].shape[1] :]  # fmt: skip
        ended = torch.isin(made, torch.tensor(ends, device=device)).int()
        tokens = int((ended.cumsum(-1) - ended == 0).sum())  # waits for a GPU
        seconds = time.monotonic() - start
        if repeat >= 0:  # the first is a warm-up
            found["ours"].append(ours)
            found["transformers"].append(tokens / seconds)
    return found


if __name__ == "__main__":
    sys.exit(main())
