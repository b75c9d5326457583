"""What `--help` prints: the recipe, the models and experiments there are, the keys that people use, examples."""

from __future__ import annotations

import re

from nemo_plugins.configs.store import CONF, options

COMMON = {
    "run.name=NAME": "folder below run.root (default: <model> or <model>-<experiment>)",
    "run.root=DIR, run.seed=N": "where runs lie (runs); seed of everything (1234)",
    "platform=auto|cpu|gpu": "what to run on; platform.devices=2 starts two local workers",
    "dry_run=true": "check everything, print the plan, write nothing",
    "force=true": "move a finished stage's folder aside and do it again",
    "debug=fast": "a few steps, to see that it works",
}
KEYS = {
    "data": {
        "corpus.sources=[FILE]": "documents: files, folders, hf:<data set>[:<configuration>[:<split>]] (default: data.train)",
        "corpus.decontamination.items=[FILE]": "evaluation sets, JSONL: a document that holds an item is dropped",
        "corpus.quality.model=DIR, .minimum=X": "the classifier (default: the language's; null: none), and P(HIGH)",
        "corpus.language_minimum=X, corpus.mask=BOOL": "probability of the language that stays (0.5); personal data masked",
        "corpus.heldout_share=X, corpus.tokens=BOOL": "held out (0.01), its near-duplicates dropped; to .bin/.idx",
        "corpus.task=clean|train_quality|evaluate_quality|apply_quality": "all of it (clean), or the classifier alone",
        "corpus.workers=N, corpus.engine=local|slurm": "processes (a core each); job arrays: corpus.slurm.partition=NAME",
        "language=NAME": "pl, cs, hu, sw, or a file of your own in conf/language/",
    },
    "convert": {
        "convert.to=nemo|hf": "import a Hugging Face folder, or export the run's newest checkpoint",
        "convert.source=DIR": "what to convert (default: model.path, or the run's newest checkpoint)",
        "convert.dtype=bf16|fp16|fp32": "of what is written (default: the teacher's, as its config.json says)",
        "convert.tokenizer=DIR": "put another tokenizer in place of the model's own, Hugging Face to Hugging Face",
        "convert.vocabulary.start=focus|mean|random": "what the embeddings of its new tokens start from",
    },
    "prune": {
        "prune.num_layers=N, prune.ffn_hidden_size=N, prune.hidden_size=N": "the student (default: the recommended one)",
        "prune.drop_layers=[3,4]": "drop just these layers, counted from 1",
        "prune.budget.parameters=N, .weights_gb=X, .device=NAME, .decode_ms=X": "instead of sizes: what the student may cost",
        "prune.budget.count=all|paper, .format=NAME, .context=N": "what counts; the weights' format (bf16); tokens of cache",
        "prune.budget.frozen=[NAME], .grid.ffn_hidden_size=[N]": "sizes that stay (hidden_size, num_attention_heads); choices",
        "prune.criterion=importance|loss|loss_run|random|last_layers": "which layers go; the last two are baselines",
        "prune.aggregation.sequence=mean|l2|variance, .samples=…": "how activations become importance (mean, l2: the paper's)",
        "prune.scores=FILE": "scores that another run left (default: those of the same teacher and calibration, if any)",
        "prune.calibration.samples=N, .seq_length=N, .data=[FILE]": "the text that importance is measured on",
        "teacher.path=DIR": "NeMo checkpoint or Hugging Face folder (default: the run's convert-import, else model.path)",
    },
    "plan": {
        "prune.num_layers=N, prune.budget.…=": "the student, as of prune (default: the recommended one)",
        "platform.devices=N, platform.nodes=N, platform.tensor_parallel=N": "what the distillation would run on",
        "plan.gpu=NAME, plan.gpus=N, plan.mfu=X": "what trains, a file of conf/device/ (h100); its share of the peak (0.4)",
        "plan.storage_gb_s=X, plan.gpu_hours_between_failures=X": "what checkpoints cost (10), how often one is needed",
        "plan.device=NAME, plan.format=NAME, plan.context=N": "what serves (rtx4090), the weights' format, tokens (8192)",
    },
    "search": {
        "search.candidates=grid|paper": "what fits the budget, or the paper's ten (experiments exp_001 to exp_010)",
        "prune.budget.…=, prune.criterion=…": "as of prune; no budget: the parameters of the recommended student",
        "search.slack=X, search.limit=N, search.only=[NAME]": "how much smaller than the largest; how many; just these",
        "search.distill_steps=N, search.keep=N": "a short distillation of the best (0: none; 3 of them)",
        "search.part=I, search.parts=N": "a share of a job array (default: Slurm's); then once without, to rank all",
    },
    "distill": {
        "distill.max_steps=N, distill.lr=X, distill.min_lr=X, distill.warmup_steps=N": "schedule",
        "distill.micro_batch_size=N, distill.global_batch_size=N, distill.seq_length=N": "sizes of a step",
        "distill.loss.kind=forward_kl|reverse_kl|jsd|skewed_kl": "divergence; .temperature=X, .top_k=N, .alpha=X",
        "distill.bad_step=stop|skip, distill.spike=X": "what becomes of a step with no finite loss, or one X times the median",
        "distill.data=[FILE], data.document_boundaries=true": "training text (default: data.train); kept apart",
        "teacher.mode=live|record|cached": "the teacher beside the student; alone, its top-k to files; from those files",
        "teacher.path=DIR, student.path=DIR": "default: what the run's convert-import and prune left",
    },
    "pretrain": {
        "pretrain.max_steps=N, pretrain.lr=X, pretrain.global_batch_size=N": "schedule and sizes, as of distill",
        "pretrain.from_teacher=true": "go on from the teacher's weights: teacher correction",
        "pretrain.sizes.num_layers=N, pretrain.sizes.ffn_hidden_size=N": "train another size than the model's own",
    },
    "sft": {
        "sft.data=[FILE], sft.heldout=[FILE]": "dialogues, .jsonl[.gz|.zst] with messages and, where wanted, a weight",
        "sft.max_steps=N, sft.lr=X, sft.warmup_steps=N, sft.global_batch_size=N": "schedule and sizes (sft.min_lr: sft.lr)",
        "sft.seq_length=N, sft.packing=auto|thd|mask|none": "a window; how dialogues share it without seeing each other",
        "sft.learn=every|last": "the assistant's turns that are learned",
        "sft.bad_rows=drop|error": "what becomes of rows that cannot be used",
        "sft.prompts=[TEXT]": "answered at each validation, for people to read",
        "sft.lora.dim=N": "low-rank adapters of rank N, merged in the end (default: all weights are trained); .alpha=N",
        "sft.adaptive_tokens=N": "lr * sqrt(learned tokens of the step / N)",
        "chat.template=own|chatml": "how dialogues are written: the tokenizer's chat template, or ChatML in its place",
        "student.path=DIR": "NeMo checkpoint (default: what the run's distill left)",
    },
    "dpo": {
        "dpo.data=[FILE], dpo.heldout=[FILE]": "pairs, .jsonl[.gz|.zst] with messages, chosen and rejected",
        "dpo.max_steps=N, dpo.lr=X, dpo.warmup_steps=N, dpo.global_batch_size=N": "schedule and sizes, in pairs",
        "dpo.kind=dpop|dpo|ipo|simpo": "the loss; dpo.beta=X, dpo.lam=X of dpop, dpo.gamma=X of simpo",
        "dpo.seq_length=N": "the longest prompt with an answer; longer ones are counted and left out",
        "chat.template=own|chatml": "how dialogues are written: the tokenizer's chat template, or ChatML in its place",
        "student.path=DIR": "NeMo checkpoint, the policy and its reference (default: what the run's sft left, else distill)",
    },
    "grpo": {
        "grpo.data=[FILE], grpo.heldout=[FILE]": "prompts, .jsonl[.gz|.zst] with messages, kind and reference",
        "grpo.max_steps=N, grpo.lr=X, grpo.global_batch_size=N": "updates, and the completions of each",
        "grpo.prompts=N, grpo.group_size=N, grpo.epochs=N": "of a rollout, and how often it is learned from",
        "grpo.kind=grpo|dr_grpo": "the loss; grpo.kl_coef=X, grpo.clip_low=X, grpo.clip_high=X",
        "grpo.max_tokens=N, grpo.temperature=X": "of a completion",
        "+grpo.rewards.KIND.NAME=WEIGHT": "what a kind of prompt is rewarded by",
        "+grpo.own_rewards.NAME=file.py:function": "a reward of your own, to be given a weight as any other",
        "grpo.engine=megatron|endpoint, grpo.endpoint.url=URL": "what draws the completions: the weights in place, or a server",
        "chat.template=own|chatml": "how dialogues are written: the tokenizer's chat template, or ChatML in its place",
        "student.path=DIR": "NeMo checkpoint, the policy and its reference (default: what the run's dpo left, else sft)",
    },
    "eval": {
        "eval=laptop|open_pl|english": "the suite: offline probes (default), the Polish leaderboard's tasks, English",
        "+eval.models={NAME: DIR}": "Hugging Face folders or NeMo checkpoints (default: the teacher and what the run left)",
        "eval.only=[TASK], eval.limit=N": "some tasks of the suite; the first N items of each",
        "eval.num_fewshot=N, eval.chat_template=true|false": "how the models are asked",
        "eval.task_path=DIR": "task definitions that are not lm-eval's own; the plan says how to get them",
        "eval.backend=hf|vllm|endpoint, eval.endpoint.url=URL": "what runs the models",
        "eval.missing=stop|skip": "what becomes of it where a task or model cannot be run; other results are kept either way",
        "eval.heldout_text=[FILE]": "text of heldout_bits_per_byte (default: the bundled one)",
    },
    "report": {
        "report.results=[FILE]": "results of judges and of tool calling, .json or .csv (docs/evaluating.md)",
        "report.generations=N": "questions whose answers are shown side by side",
        "report.card=true|false": "whether the model card also goes into the exported folder",
    },
    "quantize": {
        "export.source=DIR": "Hugging Face folder (default: the run's aligned-export, else its convert-export)",
        "export.formats=[f16,q8_0,q6_k,q5_k_m,q4_k_m,fp8]": "what to make; f32 too, and on a GPU nvfp4 and fp8_static",
        "export.imatrix.windows=N, .seq_length=N, .data=[FILE]": "text that says which columns matter (0: none)",
        "export.verify.windows=N, .strings=N, .max_kl=X": "what each format is held against, and what it may lose",
        "export.pad_vocabulary=true": "rows of the embedding beyond the tokenizer are padding",
        "export.name=NAME, export.device=cpu|cuda": "of the files; where the reference runs",
    },
    "bench": {
        "bench.backends=[llama_cpp,transformers,endpoint]": "what runs the models",
        "bench.formats=[f16,q8_0,q4_k_m]": "of llama_cpp: what the run's quantize and teacher-quantize left",
        "bench.teacher=DIR, bench.student=DIR, .teacher_gguf=DIR, .student_gguf=DIR": "other folders",
        "bench.teacher_server.url=URL, bench.student_server.url=URL, .model=NAME": "of endpoint",
        "bench.shapes=NAME,NAME, bench.layers=N": "random weights of models' sizes, N layers of the first, and extrapolated",
        "bench.prompt_tokens=N, bench.new_tokens=N, bench.concurrency=[1,2]": "a prompt, an answer, streams side by side",
        "bench.warmup=N, bench.repetitions=N, platform.threads=N": "how often; CPU threads",
        "bench.device=NAME": "a file of conf/device/, for the bound in tokens a second",
    },
    "chat": {
        "chat.model=PATH|URL": "run folder, Hugging Face folder, GGUF file or server (default: the run's latest export)",
        "chat.compare=PATH|URL": "what answers beside it with /compare (default: the teacher)",
        "chat.template=own|chatml": "how the dialogue is written: the model's chat template, or ChatML in its place",
        "chat.system=TEXT": "default: the language's; '' for none",
        "chat.temperature=X, chat.top_p=X, chat.new_tokens=N, chat.context=N": "how it answers (temperature 0: greedily)",
    },
    "serve": {
        "chat.model=FILE": "a GGUF file (default: the run's Q4_K_M)",
        "chat.port=N, chat.host=ADDRESS": "where it listens (8080, this machine alone)",
        "chat.context=N, chat.parallel=N, platform.threads=N": "tokens of a dialogue; dialogues side by side; CPU threads",
    },
    "publish": {
        "publish.repository=OWNER/NAME": "of the hub",
        "publish.licence=NAME": "of the weights, as the hub spells it",
        "publish.base_model=OWNER/NAME": "what it was made from (default: model.path where it is on the hub)",
        "publish.formats=[q8_0,q4_k_m,fp8]": "of the run's quantize, in folders of their own",
        "publish.push=true, publish.private=false": "send them with the token in HF_TOKEN; for everyone to see",
    },
    "doctor": {
        "platform=auto|cpu|gpu, platform.devices=N": "what it is to be fit for (auto: GPUs where there are some)",
        "run.root=DIR": "where it must be able to write",
        "doctor.json=true": "one line of JSON from every process, for a job that compares its nodes",
        "doctor.deep=true": "import torch, Transformer Engine and NeMo, too, and compute on every GPU: half a minute",
        "+model=NAME": "whose weights to look for (default: tiny_pl)",
    },
    "minitron": {
        "experiment=NAME": "the chain: its stages, sizes and baselines",
        "prune.…=, distill.…=": "handed on to every stage",
    },
}
EXAMPLES = {
    "convert": ("+model=tiny_pl", "+model=bielik11b convert.source=Bielik-11B dry_run=true"),
    "data": (
        "+model=tiny_pl",
        "+model=bielik11b corpus.sources=[crawl/] corpus.decontamination.items=[items.jsonl] dry_run=true",
        "+model=tiny_pl corpus.task=train_quality corpus.quality.good=[good.jsonl.gz]",
    ),
    "prune": (
        "+model=bielik11b dry_run=true",
        "+model=tiny_pl prune.num_layers=6",
        "+model=bielik11b prune.budget.device=rtx4090 dry_run=true",
        "+model=tiny_pl --multirun prune.ffn_hidden_size=512,768",
    ),
    "plan": (
        "+model=bielik11b",
        "+model=bielik11b prune.budget.parameters=7.35e9 prune.budget.count=paper plan.gpu=h200 plan.gpus=16",
        "+model=bielik11b experiment=minitron_7b plan.device=laptop16 plan.format=q4_k_m dry_run=true",
    ),
    "search": (
        "+model=tiny_pl search.distill_steps=20",
        "+model=bielik11b search.candidates=paper dry_run=true",
        "+model=bielik11b prune.budget.device=rtx4090 prune.budget.frozen=[] dry_run=true",
    ),
    "distill": ("+model=tiny_pl", "+model=tiny_pl distill.max_steps=50 run.name=short"),
    "pretrain": ("+model=tiny_pl debug=fast",),
    "sft": (
        "+model=tiny_pl experiment=laptop",
        "+model=bielik11b sft.data=[chats.jsonl.gz] dry_run=true",
    ),
    "dpo": ("+model=tiny_pl experiment=laptop", "+model=tiny_pl experiment=laptop dpo.kind=dpo run.name=beside"),
    "grpo": ("+model=tiny_pl experiment=laptop", "+model=tiny_pl experiment=laptop grpo.kind=dr_grpo run.stage=grpo-dr"),
    "eval": (
        "+model=tiny_pl experiment=laptop",
        "+model=tiny_pl '+eval.models={mine: folder/of/mine}' eval.limit=20",
        "+model=bielik11b eval=open_pl eval.task_path=tasks dry_run=true",
    ),
    "report": ("+model=tiny_pl experiment=laptop", "+model=tiny_pl experiment=laptop report.results=[bfcl.csv]"),
    "quantize": (
        "+model=tiny_pl experiment=laptop",
        "+model=from_hf model.path=DIR export.source=DIR export.formats=[q8_0,q4_k_m] data.heldout=[text.jsonl.gz]",
        "+model=tiny_pl export.source=assets/tiny_pl run.stage=teacher-quantize",
    ),
    "bench": (
        "+model=tiny_pl experiment=laptop",
        "+model=bielik11b bench.shapes=bielik11b,bielik7b bench.formats=[f16,q4_k_m]",
    ),
    "chat": (
        "+model=tiny_pl experiment=laptop",
        "+model=tiny_pl chat.model=http://127.0.0.1:8080/v1 chat.temperature=0",
    ),
    "serve": ("+model=tiny_pl experiment=laptop", "+model=tiny_pl chat.model=my-Q4_K_M.gguf chat.port=9000"),
    "publish": ("+model=tiny_pl experiment=laptop publish.repository=me/tiny publish.licence=mit dry_run=true",),
    "doctor": ("", "+model=bielik11b platform=gpu platform.devices=8", "doctor.json=true run.root=/shared/runs"),
    "minitron": ("+model=tiny_pl experiment=laptop", "+model=bielik11b experiment=minitron_7b dry_run=true"),
}


def text(recipe: str, docstring: str) -> str:
    """The whole help of a recipe, plain text."""
    parts = [
        f"usage: python recipes/{recipe}.py +model=NAME [key=value ...]",
        docstring.strip(),
        f"models (+model=)\n{_listed('model')}",
        f"experiments (experiment=)\n{_listed('experiment')}",
        "keys" + "".join(f"\n  {key}\n      {what}" for key, what in {**KEYS.get(recipe, {}), **COMMON}.items()),
        "  all of them, with their values: --cfg job;  several runs: --multirun key=a,b  (each in <run name>/<key=value>)",
        "examples" + "".join(f"\n  python recipes/{recipe}.py {words}".rstrip() for words in EXAMPLES.get(recipe, ())),
        f'tab completion\n  eval "$(python recipes/{recipe}.py -sc install=bash)"',
        "exit codes: 0 done, 2 wrong input, 75 stopped early (the same command goes on), 1 anything else",
    ]
    return "\n\n".join(parts)


def _listed(group: str) -> str:
    return "\n".join(f"  {name:<16} {_headline(group, name)}" for name in options(group))


def _headline(group: str, name: str) -> str:
    """A file's purpose, else its first comment."""
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    comments = [line.lstrip("# ").strip() for line in lines if line.startswith("#") and "@package" not in line]
    purpose = [line for line in comments if line.startswith("Purpose")]
    return re.sub(r"^Purpose\s+", "", (purpose or comments or [""])[0])
