"""The plan of a chain: one screen, no false alarm, and commands that can be pasted."""

import re
import shlex

import pytest

from nemo_plugins.configs.schema import Origin
from nemo_plugins.planning import chain_plan, checks, devices
from nemo_plugins.runs import output
from nemo_plugins.runs.prepare import compose

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

FLAGSHIP = ("+model=bielik11b", "experiment=minitron_7b")
LAPTOP = ("+model=tiny_pl", "experiment=laptop")
SCREEN = (50, 130)  # lines, columns


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch, tmp_path):
    for key in ("WORLD_SIZE", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "MINITRON_RUNTIME", "MINITRON_GPUS_PER_NODE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(checks, "has_gpu", lambda: False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def known():
    """Plans by their words: a plan composes every stage."""
    return {}


@pytest.fixture
def plan(monkeypatch, known):
    def made(*words, anew=False):
        if anew or words not in known:
            monkeypatch.setattr("sys.argv", ["minitron.py", *words])
            known[words] = chain_plan.plan(compose(list(words)))
        return known[words]

    return made


def stages(made):
    """Rows of the table of stages by name, each by its columns."""
    table = next(table for table in made.screen if table.columns)
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def lines(made, title):
    return [" ".join(map(str, row)) for table in made.screen if table.title == title for row in table.rows]


@pytest.fixture(params=[False, True], ids=["torch", "image"])
def flagship(request, plan):
    return plan(*FLAGSHIP, "dry_run=true", *(["platform=image"] if request.param else []))


def test_the_flagships_plan_is_one_screen_without_a_false_alarm(flagship, capsys):
    output.plan(flagship)
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= SCREEN[0]
    assert max(len(line) for line in said.splitlines() if "python recipes/" not in line) <= SCREEN[1]  # no command is cut
    assert {row["fits"] for row in stages(flagship).values()} <= {"yes", "nearly", ""}
    assert list(stages(flagship)) == [stage.name for stage in compose(list(FLAGSHIP)).experiment.stages]
    for words in ("no NVIDIA GPU", "of memory", "make room", "run it first", "warnings"):  # of this machine, or of the chain
        assert words not in said


def test_what_is_missing_is_said_once_and_by_kind(plan):
    missing = lines(plan(*FLAGSHIP, "dry_run=true"), "missing")
    keys = ["data.train", "data.heldout"] + [
        f"{stage}.{key}" for stage in ("sft", "dpo", "grpo") for key in ("data", "heldout")
    ]
    assert [line.split()[1:] for line in missing if line.startswith("texts")] == [
        ["give", *(f"{key}," for key in keys[:-1]), keys[-1]]
    ]
    assert sum("huggingface-cli download" in line for line in missing) == 1
    assert sum("git clone" in line for line in missing) == 1
    suites = [compose(["+model=tiny_pl", f"eval={name}"]).eval for name in ("open_pl", "paper", "english")]
    counted = sum(task.origin is not Origin.ours for suite in suites for task in suite.tasks.values())
    assert [line for line in missing if line.startswith("data sets")][0].split()[2] == str(counted)
    given = plan(*FLAGSHIP, *(f"{key}=[gone.jsonl]" for key in keys))
    assert not [line for line in lines(given, "missing") if "give" in line and line.startswith("texts")]
    assert any("gone.jsonl" in line for line in lines(given, "missing"))


@pytest.mark.parametrize("words", [(), ("data.train=[gone.jsonl]", "data.heldout=[lost.jsonl]")])
def test_a_text_that_all_stages_lack_is_one_error_under_the_key_that_gives_it(plan, words):
    made = plan("+model=llama31_8b", "experiment=own", *words)
    said = [missing.text.replace(":", " ").split()[0] for missing in made.missing if missing.kind == "data"]
    assert said == ["data.train", "data.heldout"]


def test_hours_and_cost_go_by_the_gpu_that_is_named(plan):
    def row(stage, *words):
        return {
            key: float(value.replace(",", ""))
            for key, value in stages(plan(*FLAGSHIP, *words))[stage].items()
            if key in numbers
        }

    numbers = ("hours", "GPU-h", "USD")
    here, there = row("distill", "dry_run=true"), row("distill", "plan.gpu=a100-40")
    assert there["hours"] / here["hours"] == pytest.approx(989.4 / 312, rel=0.01)
    assert there["USD"] == pytest.approx(there["GPU-h"] * devices.load("a100-40", "gpu").usd_an_hour, rel=0.01)
    assert row("distill", "plan.gpu=gh200")["hours"] == here["hours"]  # the same arithmetic
    assert (
        row("grpo", "plan.gpu=gh200")["hours"] < row("grpo", "dry_run=true")["hours"]
    )  # and a faster memory, from which completions are drawn
    assert row("distill", "plan.usd_an_hour=1")["USD"] == pytest.approx(here["GPU-h"], rel=0.01)


def test_rollouts_and_their_cache_are_said(plan):
    [said] = [line for line in lines(plan(*FLAGSHIP), "") if "draw completions" in line]
    assert said.startswith("grpo") and "40.0 GiB of keys and values" in said


def test_a_stages_layout_is_the_experiments_unless_one_is_given(plan):
    own = stages(plan(*FLAGSHIP, "dry_run=true"))
    assert (own["distill"]["layout"], own["sft"]["layout"]) == ("TP2 · DP8", "TP4 · DP4")
    given = stages(plan(*FLAGSHIP, "platform.tensor_parallel=8"))
    assert {given[name]["layout"] for name in ("distill", "sft", "dpo", "grpo")} == {"TP8 · DP2"}
    assert given["prune"]["GPUs"] == given["convert-import"]["GPUs"] == "1"


def test_what_does_not_fit_says_what_would(plan):
    words = [*FLAGSHIP, "platform.gpu=a100-40", "platform.transformer_engine=false"]
    made = plan(*words)
    assert stages(made)["sft"]["fits"] == "no"
    assert any(
        line.startswith("too large") and "sft: expected platform.recompute=full" in line for line in lines(made, "missing")
    )
    made = plan(*words, "platform.tensor_parallel=8", "platform.recompute=full")
    assert not [name for name, row in stages(made).items() if row["fits"] == "no"]


@pytest.mark.parametrize("words", [FLAGSHIP, (*LAPTOP, "run.name=mine")])
def test_the_commands_can_be_pasted(plan, words):
    made = plan(*words, "dry_run=true")
    stage, all_of_them, whole = (row[1] for table in made.screen if table.title == "next" for row in table.rows)
    program, recipe, *overrides = shlex.split(stage)
    assert (program, recipe) == ("python", "recipes/distill.py")
    cfg = compose(overrides)
    assert cfg.dry_run and cfg.run.name == compose(list(words)).run.name
    assert compose(shlex.split(all_of_them)[2:]).plan.commands
    if words[0] == LAPTOP[0]:
        assert shlex.split(whole) == ["python", "recipes/minitron.py", *words]
    commands = lines(plan(*words, "plan.commands=true"), "Commands, each can be run by itself")
    assert len(commands) == len(cfg.experiment.stages) and all("python recipes/" in command for command in commands)
    assert not any("plan.commands" in command for command in commands)


def test_on_a_cpu_it_says_minutes(plan, capsys):
    made = plan(*LAPTOP, "dry_run=true")
    minutes = [float(row["minutes"]) for row in stages(made).values() if row["minutes"]]
    found = re.search(r"about (?:(\d+) h )?(\d+) min(?: (\d+) s)?", " ".join(lines(made, "")))
    hours, whole, seconds = (int(number or 0) for number in found.groups())
    assert len(minutes) >= 8
    assert 60 * hours + whole + seconds / 60 == pytest.approx(sum(minutes), abs=0.05 * len(minutes) + (1 if hours else 0))
    assert not lines(made, "missing")
    output.plan(made)
    assert len(capsys.readouterr().out.splitlines()) <= SCREEN[0]


def test_a_stage_that_is_done_costs_nothing(plan, tmp_path):
    def total(made):
        return next(line for line in lines(made, "") if line.startswith("in all"))

    before = total(plan(*FLAGSHIP, "dry_run=true"))
    folder = tmp_path / "runs" / "bielik11b-minitron_7b" / "sft"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    made = plan(*FLAGSHIP, "dry_run=true", anew=True)
    assert stages(made)["sft"]["fits"] == "done" and total(made) != before


def test_ones_own_chain_says_what_is_left_out_and_what_would_bring_it(plan):
    mine = ("+model=llama31_8b", "experiment=own", "dry_run=true")
    said = lines(plan(*mine), "left out")
    assert [line.split()[0] for line in said] == ["sft", "dpo", "grpo", "aligned-export"]
    given = [re.findall(r"(\w+\.\w+)=\[<file>\]", line) for line in said[:3]]
    made = plan(*mine, *(f"{key}=[gone.jsonl]" for keys in given for key in keys))
    assert not lines(made, "left out")
    assert set(stages(made)) - set(stages(plan(*mine))) == {line.split()[0] for line in said}
