"""What cannot work is refused, and the message names the key."""

import platform
import re
from dataclasses import replace

import pytest

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import (
    bench_plan,
    chain_plan,
    chat_plan,
    checks,
    distill_plan,
    memory,
    quantize_plan,
    training_plan,
)
from nemo_plugins.platforms import gpus
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name

pytestmark = pytest.mark.usefixtures("plain_call")
CHATS = "distill.chats=[assets/chat_samples/sft_train.jsonl.gz]"


def plan(recipe, *overrides, model="tiny_pl"):
    return by_name()[recipe].planned(compose([f"+model={model}", *overrides]))


@pytest.mark.parametrize(
    ("overrides", "key", "why"),
    [
        ("prune.ffn_hidden_size=700", "prune.ffn_hidden_size=700", "640 or 704"),
        ("prune.hidden_size=200", "prune.hidden_size=200", "multiple of 64"),
        ("prune.num_layers=9", "prune.num_layers=9", "teacher's 8"),
        ("prune.num_layers=0", "prune.num_layers=0", "positive"),
        ("prune.num_layers=-1", "prune.num_layers=-1", "positive"),
        ("prune.num_layers=8", "prune", "at least one smaller"),
        ("prune.num_query_groups=2", "prune.num_query_groups=2", "ModelOpt"),
        ("prune.num_attention_heads=6", "prune.num_attention_heads=6", "multiple of 4"),
        ("prune.drop_layers=[0]", "prune.drop_layers", "from 1 to 8"),
        ("prune.drop_layers=[9]", "prune.drop_layers", "from 1 to 8"),
        ("prune.drop_layers=[2,2]", "prune.drop_layers", "twice"),
        ("prune.drop_layers=[]", "prune.drop_layers", "nothing"),
        ("prune.drop_layers=[1,2,3,4,5,6,7,8]", "prune.drop_layers", "all layers"),
        ("prune.drop_layers=[2] prune.ffn_hidden_size=768", "prune.drop_layers", "both"),
        ("platform.tensor_parallel=2 platform.devices=2", "platform.tensor_parallel=2", "pipeline_parallel"),
        ("platform.context_parallel=2 platform.devices=2", "platform.context_parallel=2", "pipeline_parallel"),
        ("platform.devices=2", "platform.devices=2", "pipeline_parallel=2"),
        ("platform.devices=3 platform.pipeline_parallel=3", "platform.pipeline_parallel=3", "8 layers"),
        ("prune.calibration.seq_length=257", "prune.calibration.seq_length=257", "256"),
        ("prune.calibration.samples=0", "prune.calibration.samples=0", "at least 1"),
        ("prune.calibration.micro_batch_size=3", "prune.calibration.samples=64", "multiple"),
    ],
)
def test_prune(overrides, key, why):
    with pytest.raises(UserError) as error:
        plan("prune", *overrides.split())
    assert key in str(error.value) and why in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "key", "why"),
    [
        ("platform.devices=3", "distill.global_batch_size=16", "expected e.g. 24, or fewer copies by platform.tensor_parallel"),
        ("distill.global_batch_size=12", "distill.global_batch_size=12", "8 or 16"),
        ("platform.devices=3 platform.tensor_parallel=2", "platform", "does not divide devices 3"),
        ("platform.devices=8 platform.tensor_parallel=8", "platform.tensor_parallel=8", "num_query_groups 4"),
        ("platform.devices=4 platform.pipeline_parallel=4", "platform.pipeline_parallel=4", "student's 6 layers"),
        ("platform.devices=0", "platform.devices=0", "at least 1"),
        ("distill.seq_length=1024", "distill.seq_length=1024", "256"),
        ("distill.warmup_steps=600", "distill.warmup_steps=600", "distill.max_steps=600"),
        ("distill.min_lr=0.1", "distill.min_lr=0.1", "min_lr <= lr"),
        ("distill.lr=0 distill.min_lr=0", "distill.lr=0", "above 0"),
        ("distill.max_steps=0", "distill.max_steps=0", "at least 1"),
        ("distill.loss.temperature=0", "distill.loss.temperature=0", "above 0"),
        ("distill.loss.top_k=0", "distill.loss.top_k=0", "1 to the vocabulary's"),
        ("distill.loss.top_k=99999", "distill.loss.top_k=99999", "null"),
        ("distill.loss.draws=0 teacher.mode=record", "distill.loss.draws=0", "1 or more"),
        ("distill.loss.draws=8 distill.loss.top_k=4 teacher.mode=record", "distill.loss.top_k=4", "one of them"),
        ("distill.loss.draws=8 distill.loss.kind=jsd teacher.mode=cached", "distill.loss.kind=jsd", "distill.loss.top_k=64"),
        ("distill.loss.draws=8", "distill.loss.draws=8", "teacher.mode=record"),
        ("teacher.mode=record", "distill.loss.top_k is null", "distill.loss.draws=32"),
        ("distill.loss.alpha=1.5", "distill.loss.alpha=1.5", "at most 1"),
        ("distill.loss.alpha=0", "distill.loss.alpha=0", "pretrain.py"),
        ("distill.loss.skew=1", "distill.loss.skew=1", "between 0 and 1"),
        ("distill.chat_share=0.5", "distill.chat_share=0.5", "names no dialogues"),
        (f"{CHATS} distill.chat_share=0", "distill.chat_share=0", "more than 0"),
        (f"{CHATS} distill.chat_share=1.5", "distill.chat_share=1.5", "at most 1"),
        (f"{CHATS} teacher.mode=cached distill.loss.top_k=8", "teacher.mode=cached", "teacher.mode=live"),
        (f"{CHATS} teacher.mode=record distill.loss.top_k=8", "distill.chats", "text alone"),
        (f"{CHATS} platform.context_parallel=2 platform.devices=2", "platform.context_parallel=2", "context_parallel=1"),
        ("distill.chats_heldout=[a.jsonl] +data.heldout_more.chats=a.txt", "data.heldout_more.chats", "another name"),
        ("distill.checkpoint_minutes=0", "distill.checkpoint_minutes=0", "null"),
        ("distill.spike=0.9", "distill.spike=0.9", "more than 1"),
        ("distill.stop_minutes=-1", "distill.stop_minutes=-1", "0 or more"),
        ("+data.heldout_more.heldout=other.txt", "data.heldout_more.heldout", "plain name"),
        ("data.weights=[1,2]", "data.weights", "1 sources"),
        ("data.weights=[-1]", "data.weights: -1", "above 0"),
        ("data.heldout=[a.txt,b.txt]", "data.heldout", "several sources"),
    ],
)
def test_distill(overrides, key, why):
    with pytest.raises(UserError) as error:
        plan("distill", *overrides.split())
    assert key in str(error.value) and why in str(error.value)


def test_draws_of_the_teacher_of_the_whole_training_fit_five_terabytes():
    made = plan("distill", "teacher.mode=record", "distill.loss.draws=32", model="bielik11b")
    [recording] = [table for table in made.tables if table.title == "Recording"]
    each = float(dict(recording.rows)["bytes a token"].removeprefix("at most "))
    assert made.writes == each * 65_536_000_000 < 5e12


@pytest.mark.parametrize(
    ("recipe", "overrides", "key"),
    [
        ("pretrain", "pretrain.sizes.num_attention_heads=6", "pretrain.sizes"),
        ("pretrain", "pretrain.sizes.num_layers=0", "pretrain.sizes.num_layers=0"),
        ("convert", "convert.to=gguf", "convert.to=gguf"),
        ("convert", "convert.dtype=int4", "convert.dtype=int4"),
        ("convert", "platform.devices=2", "platform.devices=2"),
    ],
)
def test_pretrain_and_convert(recipe, overrides, key):
    with pytest.raises(UserError) as error:
        plan(recipe, *overrides.split())
    assert key in str(error.value)


def missing(made, kind):
    return "\n".join(one.text for one in made.missing if one.kind == kind)


def test_dialogues_of_a_distillation_that_cannot_be_used_are_missing_and_named(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "text.jsonl").write_text('{"text": "Ala ma kota."}\n')
    for name, why in (("gone.jsonl", "is no file"), ("empty.jsonl", "no usable row"), ("text.jsonl", "no usable row")):
        for key in ("distill.chats", "distill.chats_heldout"):
            said = missing(plan("distill", f"{key}=[{name}]"), "data")
            assert key in said and why in said, said


def test_heldout_dialogues_are_new_and_fill_a_batch():
    heldout = CHATS.replace("chats", "chats_heldout", 1)
    warnings = "\n".join(plan("distill", CHATS, heldout).warnings)
    assert "distill.chats_heldout: assets/chat_samples/sft_train.jsonl.gz is trained on, too" in warnings
    of_few = plan("distill", heldout, "distill.global_batch_size=4096", "distill.micro_batch_size=8")
    assert "distill.chats_heldout holds 2,400 usable rows, a batch is 4,096" in missing(of_few, "data")


def test_the_plan_says_how_many_windows_are_dialogues():
    made = plan("distill", CHATS, "distill.chat_share=0.25", "distill.max_steps=600")
    [table] = [table for table in made.tables if table.title == "Dialogues beside the text"]
    assert dict(table.rows)["windows"].startswith("2,400 of 9,600")
    assert any(table.title == "Dialogues" for table in made.tables)  # how they are written


def test_text_that_is_not_here_is_missing_and_named():
    assert "no file gone.txt" in missing(plan("distill", "data.train=[gone.txt]"), "data")
    assert "give data.train" in missing(plan("distill", "data.train=[]"), "data")


def test_text_of_another_kind_and_half_a_prefix_are_named(tmp_path):
    (tmp_path / "text.docx").write_text("x")
    (tmp_path / "half.bin").write_text("x")
    for name in ("empty.txt", "none.bin", "none.idx"):
        (tmp_path / name).touch()
    said = missing(plan("pretrain", "data.train=[text.docx,half,empty.txt,none]"), "data")
    assert "none holds no token" in said
    assert "text.docx is neither text nor tokens" in said
    assert "half.idx is missing" in said
    assert "empty.txt is empty" in said


def test_a_gpu_that_is_not_here_is_missing(monkeypatch):
    monkeypatch.setattr(checks, "has_gpu", lambda: False)
    assert "platform=gpu" in missing(plan("distill", "platform=gpu"), "device")


def test_a_gpu_is_seen_whatever_its_number(monkeypatch, tmp_path):
    """A container that was given the fourth GPU of a machine has /dev/nvidia3 and no other."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "DEV", tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not checks.has_gpu()
    (tmp_path / "nvidia3").touch()
    assert checks.has_gpu()


def test_processes_wait_some_time():
    with pytest.raises(UserError, match="platform.process_group_minutes=0: expected more than 0"):
        plan("distill", "platform.process_group_minutes=0")


def test_the_job_must_have_the_processes_asked_for(monkeypatch):
    assert "neither Slurm nor torchrun" in missing(plan("distill", "platform.nodes=2"), "device")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "the job has 4 processes" in missing(plan("distill", "platform.devices=2"), "device")
    assert not missing(plan("distill", "platform.devices=2", "platform.nodes=2", "distill.micro_batch_size=4"), "device")


def test_disk_and_memory_are_held_against_the_need(tmp_path):
    checks.disk(tmp_path / "not" / "yet", 1)
    with pytest.raises(UserError, match="run.root"):
        checks.disk(tmp_path, 1e18)
    with pytest.raises(UserError, match="converting x needs"):
        checks.host_memory(1e18, "converting x")


def test_a_bielik_teacher_that_is_not_here_says_how_to_fetch_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    said = missing(plan("convert", model="bielik11b"), "weights")
    assert "huggingface-cli download speakleash/Bielik-11B-v3-Base-20250730" in said and "HF_TOKEN" in said


def test_the_distillation_is_planned_for_the_student_that_was_pruned(tmp_path):
    made = plan("distill")
    assert "6 layers" in made.title
    from omegaconf import OmegaConf

    folder = tmp_path / "runs" / "tiny_pl" / "prune"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    pruned = compose(["+model=tiny_pl", "prune.num_layers=7"])
    OmegaConf.save(OmegaConf.structured(pruned), folder / "config.yaml")
    assert "7 layers" in plan("distill").title


@pytest.mark.parametrize("recipe", ["distill", "pretrain", "sft", "dpo", "grpo"])
def test_the_papers_chain_without_transformer_engine(recipe):
    """It fits 80 GB; what does not fit 46 is missing (exit code 2 where it is to run), and what the message names fits."""
    words = [
        "+model=bielik11b",
        "experiment=minitron_7b",
        "pretrain.global_batch_size=1000",
        "platform.transformer_engine=false",
    ]
    plan = by_name()[recipe].planned
    assert not missing(plan(compose(words)), "fit")
    words += ["platform.gpu_memory_gib=46"]
    said = missing(plan(compose(words)), "fit")
    if recipe in ("sft", "grpo"):
        assert "shard_optimizer" not in said
        shorter = re.search(rf"at most ({recipe}\.\w+=\d+)", said)[1]
        for way in (shorter, *(["platform.recompute=full"] if recipe == "sft" else [])):
            assert way in said and not missing(plan(compose([*words, way])), "fit")
    else:
        whole = compose([*words, "platform.shard_optimizer=false"])
        assert not said and "platform.shard_optimizer=true" in missing(plan(whole), "fit")
    assert not missing(plan(compose([*words, "platform.transformer_engine=true"])), "fit")


def test_a_teacher_is_fine_tuned_where_it_is_named_and_never_its_own_student():
    """A chat model of the teacher's sizes is what on-policy distillation learns from."""
    words = ["+model=tiny_pl", "prune.num_layers=8", "prune.ffn_hidden_size=1024"]
    with pytest.raises(UserError, match="the student would be the teacher"):
        checks.student(compose(words))
    assert checks.student(compose([*words, "student.path=teacher"])).num_layers == 8


def test_one_process_is_asked_for_by_all_keys_at_once():
    for name in ("convert", "prune"):
        with pytest.raises(UserError) as error:
            plan(name, "experiment=minitron_7b", model="bielik11b")
        words = re.search(r"expected .*?((?:platform\.\w+=1 ?)+)", str(error.value))[1].split()
        plan(name, "experiment=minitron_7b", *words, model="bielik11b")


def test_a_plan_counts_the_best_checkpoint_and_the_one_that_is_being_written(tmp_path):
    train, model = compose(["+model=tiny_pl"]).distill, Architecture.from_config(compose(["+model=tiny_pl"]).model)
    each = memory.checkpoint(model, 4, optimizer=True)
    files = training_plan.files(train, model, 4)
    assert files["steps (2 kept and the best)"] == 4 * each
    assert training_plan.files(replace(train, keep_best=False), model, 4)["steps (2 kept)"] == 3 * each


def test_what_an_earlier_attempt_wrote_is_not_wanted_twice(tmp_path):
    whole = plan("distill").writes
    steps = tmp_path / "runs" / "tiny_pl" / "distill" / "steps" / "step=0000200"
    steps.mkdir(parents=True)
    (steps / "weights").write_bytes(bytes(1000))
    assert plan("distill").writes == whole - 1000
    assert plan("distill", "force=true").writes == whole


def test_a_chain_wants_room_for_all_its_stages_that_are_not_done(monkeypatch, tmp_path):
    words = ["+model=tiny_pl", "experiment=laptop"]
    asked = []
    monkeypatch.setattr(checks, "disk", lambda folder, need: asked.append(need))
    monkeypatch.setattr("sys.argv", ["minitron.py", *words])
    whole = chain_plan.plan(compose(words)).writes
    assert whole == pytest.approx(sum(asked[:-1])) and asked[-1] == whole
    folder = tmp_path / "runs" / "tiny_pl-laptop" / "distill"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    assert whole - chain_plan.plan(compose(words)).writes == pytest.approx(distill_plan.plan(compose(words)).writes, abs=100)


def test_document_boundaries_under_transformer_engine_want_one_sequence_at_a_time(monkeypatch):
    for stage, key in (("distill", "distill.micro_batch_size"), ("prune", "prune.calibration.micro_batch_size")):
        words = ("data.document_boundaries=true", f"{key}=2")
        plan(stage, *words)
        with monkeypatch.context() as here:
            here.setattr(checks, "find_spec", lambda name: name)
            with pytest.raises(UserError, match="data.document_boundaries=true") as error:
                plan(stage, *words)
            assert f"expected {key}=1" in str(error.value)
            plan(stage, *words, f"{key}=1")
            plan(stage, *words, "platform=cpu")  # where it counts as absent


@pytest.mark.parametrize(
    ("stage", "overrides", "module"),
    [
        (quantize_plan.plan, ["export.formats=[q4_k_m]"], "cyllama"),
        (bench_plan.plan, ["bench.backends=[llama_cpp]", "bench.formats=[f16]"], "cyllama"),
        (bench_plan.plan, ["bench.shapes=[tiny_pl]", "bench.formats=[f16]"], "cyllama"),
        (chat_plan.plan, ["chat.model=a.gguf"], "cyllama"),
        (chat_plan.serve, ["chat.model=a.gguf"], "xllamacpp"),
    ],
)
def test_a_stage_says_that_its_package_is_not_here_and_where_there_is_one(stage, overrides, module, monkeypatch, tmp_path):
    (tmp_path / "a.gguf").write_bytes(chat_plan.MAGIC)
    found = checks.find_spec

    def said() -> str:
        made = stage(compose(["+model=tiny_pl", *overrides]))
        return "\n".join(missing.text for missing in made.missing if missing.kind == "package")

    assert said() == ""
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name == module else found(name))
    assert said().startswith(f"{module} is not installed: llama.cpp") and "./minitron setup" in said()
    for place in (platform, checks):
        monkeypatch.setattr(place, "machine", lambda: "aarch64")
    assert ("has none for aarch64: run this stage on x86-64" in said()) == (module == "cyllama")


def test_a_plan_for_gpus_says_what_apex_decides(monkeypatch):
    def said(*words) -> str | None:
        table = next(table for table in plan("distill", *words).tables if table.title == "Training")
        return dict(table.rows).get("gradient accumulation")

    assert said("platform=gpu").startswith("not fused: Apex") and said("platform=cpu") is None
    monkeypatch.setattr(checks, "find_spec", lambda name: name)
    assert said("platform=gpu") == "fused by Apex"


def test_packing_goes_by_whether_transformer_engine_can_be_used(monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: name)

    def said(*words) -> str:
        return missing(by_name()["sft"].planned(compose(["+model=tiny_pl", "experiment=laptop", *words])), "packing")

    for kind, packing in (("cpu", "mask"), ("gpu", "thd")):
        assert not said(f"platform={kind}", f"sft.packing={packing}")
        assert not said(f"platform={kind}")
    assert "would see all dialogues" in said("platform=gpu", "sft.packing=mask")
    assert "Transformer Engine is not here" in said("platform=cpu", "sft.packing=thd")
