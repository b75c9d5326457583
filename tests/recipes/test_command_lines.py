"""The recipes through the command line that a user types, as far as it goes before NeMo."""

import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start

from nemo_plugins.runs import paths
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name

pytestmark = pytest.mark.long  # its tests start processes

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 2.0  # seconds that a mistake may cost


def used() -> float:
    """Seconds of a processor that the processes have taken that this one started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture
def call(tmp_path):
    """Run a recipe in an empty directory; `timed`: afresh, held to seconds of a processor, which others take none of."""

    def run(recipe: str, *arguments: str, timed: bool = False) -> subprocess.CompletedProcess:
        job = ("RANK", "WORLD_SIZE", "SLURM_", "PYTHONDONTWRITEBYTECODE")  # without bytecode each start compiles for a second
        env = {k: v for k, v in os.environ.items() if not k.startswith(job)} | {
            "HF_HOME": str(tmp_path / "hf"),
            "COLUMNS": "160",
        }
        command = [sys.executable, str(REPOSITORY / "recipes" / f"{recipe}.py"), *arguments]
        if not timed:
            done = warm_start.light(command, cwd=tmp_path, env=env, timeout=120)
        for last in (False, False, True) if timed else ():  # the least of three: processes that share caches take longer
            before = used()
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
            if (seconds := used() - before) < LIMIT:
                break
            assert not last, f"{' '.join(command)} took {seconds:.1f} s of a processor"
        assert not list(tmp_path.iterdir()), "a recipe that does not run must write nothing"
        return done

    return run


@pytest.mark.parametrize("recipe", by_name())
def test_help_says_what_there_is(call, recipe):
    done = call(recipe, "--help")
    assert done.returncode == 0
    for word in ("+model=", "bielik11b", "tiny_pl", "experiment", "laptop", "dry_run=true", "exit codes"):
        assert word in done.stdout
    assert f"python recipes/{recipe}.py +model=" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "models: bielik11b, bielik1_5b, "),
        ("model=tiny_pl", "+model=<name>"),
        ("+model=tiny_p", "did you mean +model=tiny_pl?"),
        ("+model=tiny_pl prune.num_layer=6", "did you mean prune.num_layers?"),
        ("+model=tiny_pl prune.calibration.sample=6", "did you mean prune.calibration.samples?"),
        ("+model=tiny_pl +prune.num_layerz=6", "did you mean prune.num_layers?"),
        ("+model=tiny_pl num_layers=6", "there is no such key"),
        ("+model=tiny_pl prune.num_layers=six", "prune.num_layers"),
        ("+model=tiny_pl platform=cpuu", "did you mean platform=cpu?"),
        ("+model=tiny_pl platform.kind=tpu", "expected one of [auto, cpu, gpu]"),
        ("+model=tiny_pl experiment=laptops", "did you mean experiment=laptop?"),
        ("+model=bielik11b experiment=laptop", "is for tiny_pl"),
        ("+model=tiny_pl prune.num_layers=[", "prune.num_layers"),
        ("+model=tiny_pl prune.num_layers=9", "prune.num_layers=9"),
        ("+model=tiny_pl run.name=${nothing}", "nothing"),
        ("+model=bielik11b data.train=[a.txt]", "no file a.txt"),
        ("+model=tiny_pl prune.budget.parameters=7e6 prune.num_layers=6", "prune.budget.parameters and prune.num_layers"),
        ("+model=tiny_pl prune.budget.decode_ms=1", "prune.budget.decode_ms=1 without a device"),
        ("+model=tiny_pl prune.budget.parameter=7e6", "did you mean prune.budget.parameters?"),
        ("+model=tiny_pl prune.budget.format=q4", "prune.budget.format"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(call, arguments, says):
    done = call("prune", *arguments.split())
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.startswith("prune: ")
    assert "Traceback" not in done.stderr and "HYDRA_FULL_ERROR" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("recipe", "words", "code"),
    [
        ("prune", "--help", 0),
        ("prune", "+model=tiny_pl prune.num_layer=6", 2),
        ("distill", "+model=bielik11b dry_run=true", 0),
        ("plan", "+model=bielik11b platform.devices=8 dry_run=true", 0),
    ],
)
def test_an_answer_before_anything_heavy_costs_seconds(call, recipe, words, code):
    assert call(recipe, *words.split(), timed=True).returncode == code


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("convert", ["huggingface-cli download", "convert-import/checkpoint"]),
        ("prune", ["7,477,727,232", "7,346,130,944", "-33.05%", "prune/checkpoint"]),
        ("distill", ["65,536,000,000", "teacher", "optimizer"]),
        ("pretrain", ["11,168,796,672", "gradients"]),
    ],
)
def test_dry_run_prints_the_plan_where_nothing_is_here(call, recipe, says):
    done = call(recipe, "+model=bielik11b", "distill.global_batch_size=1000", "dry_run=true")
    assert done.returncode == 0, done.stderr
    for words in [*says, "warning", "dry run: nothing was written"]:
        assert words in done.stdout


def test_a_plan_of_the_papers_student_says_the_figures_without_a_gpu_or_weights(call):
    done = call(
        "plan", "+model=bielik11b", "platform.devices=8", "platform.nodes=2", "platform.tensor_parallel=4", "dry_run=true"
    )
    assert done.returncode == 0, done.stderr
    for words in ("7,477,727,232", "7,346,130,944", "-33.05%", "-33.44%", "GPU-hours", "+50.2%", "81.41 tokens/s", "+49.6%",
                  "quoted", "q4_k_m", "H200", "does not fit plan.device=rtx4090", "dry run: nothing was written"):  # fmt: skip
        assert words in done.stdout
    assert "are not on this machine" not in done.stdout  # a plan wants neither weights nor text


def test_dry_run_of_the_papers_chain_lists_every_stage(call):
    done = call("minitron", "+model=bielik11b", "experiment=minitron_7b", "dry_run=true")
    assert done.returncode == 0, done.stderr
    for words in ("convert-import", "prune", "distill", "convert-export", "7,477,727,232", "recipes/distill.py"):
        assert words in done.stdout
    assert "run it first" not in done.stdout  # what the chain itself will make is not missing


def test_a_chain_is_planned_within_hydras_own_main_too(call):
    done = call("minitron", "--run", "+model=tiny_pl", "experiment=laptop", "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "recipes/distill.py" in done.stdout


def test_a_mistake_in_a_stage_of_the_chain_is_found_before_the_first_starts(call):
    done = call("minitron", "+model=tiny_pl", "experiment=laptop", "distill.seq_length=4096")
    assert done.returncode == 2
    assert "stage distill: distill.seq_length=4096" in done.stderr


def test_a_chain_needs_an_experiment_with_stages(call):
    done = call("minitron", "+model=tiny_pl", "experiment=tiny_pl")
    assert done.returncode == 2 and "laptop" in done.stderr


def test_the_commands_for_gpus_of_the_readme_find_what_those_before_them_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = (REPOSITORY / "README.md").read_text().split("## On GPUs")[1].split("```bash")[1].split("```")[0]
    lines = section.replace("\\\n", " ").splitlines()
    found = [re.search(r"recipes/(\w+)\.py (.*)", line).groups() for line in lines if "recipes/" in line]
    assert [recipe for recipe, _ in found] == ["convert", "prune", "distill"]
    for recipe, words in found:
        cfg = compose(shlex.split(words))
        made = by_name()[recipe].planned(cfg)
        assert not [missing.text for missing in made.missing if missing.kind in ("teacher", "earlier")]
        folder = paths.run_root(cfg) / {"convert": "convert-import"}.get(recipe, recipe)
        (folder / "checkpoint").mkdir(parents=True)
        (folder / "summary.json").write_text("{}")


@pytest.mark.parametrize("recipe", ["chat", "serve"])
def test_what_starts_nothing_on_an_experiments_gpus_asks_for_none(call, recipe):
    done = call(recipe, "+model=bielik11b", "experiment=minitron_7b", "dry_run=true")
    assert done.returncode == 0, done.stderr


def test_cfg_job_prints_the_configuration(call):
    done = call("prune", "+model=tiny_pl", "--cfg", "job")
    assert done.returncode == 0 and "num_query_groups: 4" in done.stdout


def test_tab_completion_knows_the_models(call, tmp_path):
    env = {**os.environ, "COMP_LINE": "prune.py +model=tin", "COMP_POINT": "19"}
    command = [sys.executable, str(REPOSITORY / "recipes" / "prune.py"), "-sc", "query=bash"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert "+model=tiny_pl" in done.stdout.split()


@pytest.mark.parametrize(
    "command",
    [
        ("prune", "+model=bielik11b", "dry_run=true"),
        ("plan", "+model=bielik11b"),
        ("eval", "+model=bielik11b", "eval=english", "dry_run=true"),
        ("report", "+model=tiny_pl", "dry_run=true"),
    ],
)
def test_nothing_heavy_is_imported_before_validation(tmp_path, command):
    recipe, *arguments = command
    script = (
        "import sys, runpy\n"
        f"sys.argv = {[str(REPOSITORY / 'recipes' / f'{recipe}.py'), *arguments]!r}\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'nemo', 'megatron', 'transformers', 'numpy', 'lightning', 'multistorageclient', 'matplotlib'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
