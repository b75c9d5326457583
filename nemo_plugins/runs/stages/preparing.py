"""Stages before a student is trained: the machine, the text, its size, the teacher."""

from nemo_plugins.runs.stages.stage import NEMO, ONE_PROCESS, PRUNING, SlurmJob, Stage

# of `corpus`: where and how fast it runs does not change a byte
CORPUS = ("task", "sources", "text_files", "longest_mib", "part_mib", "language_minimum", "quality", "duplicates",
          "decontamination", "mask", "heldout_share", "heldout_similarity", "tokens", "samples")  # fmt: skip

DOCTOR = Stage(
    name="doctor",
    plan="nemo_plugins.planning.doctor_plan:plan",
    writes=False,
    default_model="tiny_pl",
    keys={
        "platform=auto|cpu|gpu, platform.devices=N": "what it is to be fit for (auto: GPUs where there are some)",
        "run.root=DIR": "where it must be able to write",
        "doctor.json=true": "one line of JSON from every process, for a job that compares its nodes",
        "doctor.deep=true": "import torch, Transformer Engine and NeMo, too, and compute on every GPU: half a minute",
        "+model=NAME": "whose weights to look for (default: tiny_pl)",
    },
    examples=("", "+model=bielik11b platform=gpu platform.devices=8", "doctor.json=true run.root=/shared/runs"),
)
DATA = Stage(
    name="data",
    plan="nemo_plugins.planning.data_plan:plan",
    section="corpus",
    reads=("model.path", "language", *(f"corpus.{key}" for key in CORPUS)),
    reads_besides="nemo_plugins.planning.chat_sets_plan:reads",
    folder="nemo_plugins.planning.corpus_plan:stage",
    processes="one",
    resumable=True,
    packages=("datatrove", "ftfy", "py3langid", "xgboost-cpu"),
    on_cpu=True,
    job=SlurmJob(
        "Documents to training text on one node (job arrays of their own: corpus.engine=slurm from a login node).",
        "+model=bielik11b corpus.sources=[crawl/]",
        ONE_PROCESS,
        memory="64G",
    ),
    keys={
        "corpus.sources=[FILE]": "documents: files, folders, hf:<data set>[:<configuration>[:<split>]] (default: data.train)",
        "corpus.decontamination.items=[FILE]": "evaluation sets, JSONL: a document that holds an item is dropped",
        "corpus.quality.model=DIR, .minimum=X": "the classifier (default: the language's; null: none), and P(HIGH)",
        "corpus.language_minimum=X, corpus.mask=BOOL": "probability of the language that stays (0.5); personal data masked",
        "corpus.heldout_share=X, corpus.tokens=BOOL": "held out (0.01), its near-duplicates dropped; to .bin/.idx",
        "corpus.task=clean|train_quality|evaluate_quality|apply_quality": "all of it (clean), or the classifier alone",
        "corpus.task=chats": "dialogues and pairs of sft.data, dpo.data, … to tokens, packed, before those stages want them",
        "corpus.workers=N, corpus.engine=local|slurm": "processes (a core each); job arrays: corpus.slurm.partition=NAME",
        "language=NAME": "a file of conf/language/, one of your own too (default: pl)",
    },
    examples=(
        "+model=tiny_pl",
        "+model=bielik11b corpus.sources=[crawl/] corpus.decontamination.items=[items.jsonl] dry_run=true",
        "+model=tiny_pl corpus.task=train_quality corpus.quality.good=[good.jsonl.gz]",
        "+model=tiny_pl experiment=laptop corpus.task=chats",
    ),
)
PLAN = Stage(
    name="plan",
    plan="nemo_plugins.planning.cost_plan:plan",
    reads=("model", "prune", "distill", "sft", "dpo", "platform", "plan"),
    processes="own",
    keys={
        "prune.num_layers=N, prune.budget.…=": "the student, as of prune (default: the recommended one)",
        "platform.devices=N, platform.nodes=N, platform.tensor_parallel=N": "what the distillation would run on",
        "plan.gpu=NAME, plan.gpus=N, plan.mfu=X": "what trains (platform.gpu); how many; its share of the peak (0.4)",
        "plan.usd_an_hour=X": "what a GPU-hour costs (default: what the device's file says)",
        "plan.storage_gb_s=X, plan.gpu_hours_between_failures=X": "what checkpoints cost (10), how often one is needed",
        "plan.device=NAME, plan.format=NAME, plan.context=N": "what serves (rtx4090), the weights' format, tokens (8192)",
    },
    examples=(
        "+model=bielik11b",
        "+model=bielik11b prune.budget.parameters=7.35e9 prune.budget.count=paper plan.gpu=h200 plan.gpus=16",
        "+model=bielik11b experiment=minitron_7b plan.device=laptop16 plan.format=q4_k_m dry_run=true",
    ),
)
CONVERT = Stage(
    name="convert",
    plan="nemo_plugins.planning.convert_plan:plan",
    reads=("model", "convert"),
    folder="nemo_plugins.planning.convert_plan:stage",
    processes="one",
    in_chain=True,
    checkpoints=("convert-import",),
    packages=NEMO,
    seconds=5,
    job=SlurmJob("Between Hugging Face and NeMo, in one process.", "+model=bielik11b convert.to=nemo", ONE_PROCESS, gpus=1),
    keys={
        "convert.to=nemo|hf": "import a Hugging Face folder, or export the run's newest checkpoint",
        "convert.source=DIR": "what to convert (default: model.path, or the run's newest checkpoint)",
        "convert.random=true": "of nemo: random weights of the model's shapes, as hf and checkpoint, without any download",
        "convert.dtype=bf16|fp16|fp32": "of what is written (default: the teacher's, as its config.json says)",
        "convert.tokenizer=DIR": "put another tokenizer in place of the model's own, Hugging Face to Hugging Face",
        "convert.vocabulary.start=focus|mean|random": "what the embeddings of its new tokens start from",
    },
    examples=(
        "+model=tiny_pl",
        "+model=bielik11b convert.source=Bielik-11B dry_run=true",
        "+model=bielik11b convert.random=true run.name=measured dry_run=true",
    ),
)
SEARCH = Stage(
    name="search",
    plan="nemo_plugins.planning.search_plan:plan",
    reads=("model", "teacher", "prune", "search", "data", "distill", "platform.precision"),
    folder="nemo_plugins.planning.candidates:stage",
    processes="one",
    resumable=True,
    packages=PRUNING,
    job=SlurmJob(
        "The candidates of a search, shared out to an array; afterwards python recipes/search.py with the same overrides"
        " ranks them all.",
        "+model=bielik11b search.limit=10",
        ONE_PROCESS,
        gpus=1,
        array="0-9",
    ),
    keys={
        "search.candidates=grid|paper": "what fits the budget, or the paper's ten (experiments exp_001 to exp_010)",
        "prune.budget.…=, prune.criterion=…": "as of prune; no budget: the parameters of the recommended student",
        "search.slack=X, search.limit=N, search.only=[NAME]": "how much smaller than the largest; how many; just these",
        "search.distill_steps=N, search.keep=N": "a short distillation of the best (0: none; 3 of them)",
        "search.part=I, search.parts=N": "a share of a job array (default: Slurm's); then once without, to rank all",
    },
    examples=(
        "+model=tiny_pl search.distill_steps=20",
        "+model=bielik11b search.candidates=paper dry_run=true",
        "+model=bielik11b prune.budget.device=rtx4090 prune.budget.frozen=[] dry_run=true",
    ),
)
PREPARING = (DOCTOR, DATA, PLAN, CONVERT, SEARCH)
