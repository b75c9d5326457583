"""A measurement of a training: the steps that it runs are the stage's own, laid out as its chain has it, beside its plan."""

import pytest

from nemo_plugins.planning import pace, text_size, training_bench_plan
from nemo_plugins.planning.training_bench_plan import Figures
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name
from nemo_plugins.training import bench

BENCH = by_name()["bench"]


pytestmark = pytest.mark.usefixtures("plain_call")


def config(name, *overrides, model="tiny_pl"):
    return compose([f"+model={model}", f"bench.training={name}", *overrides])


@pytest.mark.parametrize("name", training_bench_plan.MEASURED)
def test_it_is_the_stages_own_training_cut_short(name):
    cfg = config(
        name, f"{name}.lr=3e-4", f"{name}.min_lr=0", "bench.warmup=2", "bench.repetitions=4", "run.stage=x", "force=true"
    )
    cut, whole = compose(training_bench_plan.words(cfg)), compose(["+model=tiny_pl"])
    mine, its = getattr(cut, name), getattr(whole, name)
    assert (mine.max_steps, mine.lr) == (6, 3e-4) and not cut.force and cut.run.stage is None
    assert (mine.global_batch_size, mine.seq_length) == (its.global_batch_size, its.seq_length)
    assert cut.run.name == "tiny_pl/x/run"  # in which `find` sees what the run has
    assert BENCH.folder_of(config(name)) == f"bench-{name}"


def test_an_experiments_layout_of_the_stage_is_kept_unless_another_is_given():
    def layout(*overrides):
        cfg = config("distill", "experiment=minitron_7b", *overrides, model="bielik11b")
        return compose(training_bench_plan.words(cfg)).platform.tensor_parallel

    cfg = compose(["+model=bielik11b", "experiment=minitron_7b"])
    [stage] = [stage for stage in cfg.experiment.stages if stage.name == "distill"]
    [split] = [word for word in stage.overrides if word.startswith("platform.tensor_parallel=")]
    assert layout() == int(split.partition("=")[2]) != cfg.platform.tensor_parallel
    assert layout("platform.tensor_parallel=1") == 1


def test_the_plan_is_that_of_the_whole_training():
    cfg = config("distill", "distill.max_steps=2000")
    said = training_bench_plan.figures(cfg, training_bench_plan.planned(cfg))
    whole = by_name()["distill"].planned(compose(["+model=tiny_pl", "distill.max_steps=2000"]))
    assert said == Figures((whole.seconds - pace.START) / 3600, whole.cost.bytes, None)
    gpus = config("sft", "experiment=minitron_7b", "platform=gpu", model="bielik11b")
    said = training_bench_plan.figures(gpus, training_bench_plan.planned(gpus))
    assert said.mfu == gpus.plan.mfu and said.hours > 1


def test_what_is_missing_is_named_where_the_run_has_its_place(tmp_path):
    made = BENCH.planned(config("distill", "run.name=mine", "data.train=[]", "data.heldout=[]"))
    assert not [missing for missing in made.missing if missing.kind == "data"]  # random tokens are as long
    [said] = [missing.text for missing in made.missing if "prune" in missing.text]
    assert "run.name=mine" in said and "mine/bench-distill" not in said and "max_steps" not in said


@pytest.mark.parametrize(
    ("name", "more", "why"),
    [
        ("grpo", (), "bench.training=grpo"),
        ("prune", (), "bench.training=prune"),
        ("distill", ("teacher.mode=record",), "trains nothing"),
        ("sft", ("sft.global_batch_size=3", "sft.micro_batch_size=2"), "not a multiple of 2"),
    ],
)
def test_what_cannot_be_measured_is_refused(name, more, why):
    with pytest.raises(UserError, match=why):
        BENCH.planned(config(name, *more))


def test_another_layout_is_another_measurement():
    assert {"distill", "platform"} <= set(BENCH.reads_of(config("distill")))
    assert BENCH.reads_of(compose(["+model=tiny_pl"])) == BENCH.reads  # decoding is timed whatever a training is like


@pytest.mark.parametrize("vocabulary", [4096, 100_000])
def test_random_tokens_are_read_as_tokens(tmp_path, vocabulary):
    import numpy as np

    bench.random_tokens(tmp_path / "tokens", vocabulary, seq_length=48, sequences=5)
    size = text_size.of(compose(["+model=tiny_pl"]), str(tmp_path / "tokens"))
    assert (size.tokens, size.whole) == (6 * 48, True)
    ids = np.fromfile(tmp_path / "tokens.bin", np.uint16 if vocabulary == 4096 else np.int32)
    assert 0 <= ids.min() and 0.9 * vocabulary < ids.max() < vocabulary
    before = (tmp_path / "tokens.idx").stat().st_mtime_ns
    bench.random_tokens(tmp_path / "tokens", vocabulary, seq_length=48, sequences=5)
    assert (tmp_path / "tokens.idx").stat().st_mtime_ns == before and len(list(tmp_path.iterdir())) == 2


def test_steps_to_warm_up_do_not_count():
    seconds = [100.0, 2.0, 4.0, 3.0]
    lines = [{"step_seconds": took, "tokens_per_second": 12 / took, "peak_memory_bytes": took} for took in seconds]
    made = bench.measured(lines, warmup=1)
    assert (made["steps"], made["step_seconds"]["median"], made["tokens_per_second"]) == (3, 3.0, 4.0)
    assert made["mfu"] is None and made["peak_memory_bytes"] == 100.0
    made["hours"] = 1.0
    rows = {row[0]: row for row in bench.table(made, Figures(hours=2.0, bytes=50.0, mfu=None), steps=3600).rows}
    assert rows["seconds a step"][1:] == ("3", "2.5 to 3.5", "2", "1.50")
    assert rows["tokens/s"][1:] == ("4", "", "6", "0.67") and rows["MFU"][1:] == ("", "", "", "")
    assert rows["hours of 3,600 steps"][-1] == "0.50"
