"""The script for a machine with a GPU, on one without: its plan, command line and results, and every command that it gives."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


def module(name: str, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, loaded)
    spec.loader.exec_module(loaded)
    return loaded


def silicon(*arguments: str, **more) -> subprocess.CompletedProcess:
    command = [sys.executable, str(HERE / "silicon.py"), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, **more)


def test_all_parts_fit_one_call(monkeypatch):
    script = module("silicon", monkeypatch)
    names = [part.name for part in script.PARTS]
    assert script.seconds(list(script.PARTS)) <= script.LIMIT < 600
    for part in script.PARTS:
        assert all(names.index(need) < names.index(part.name) for need in part.needs)
    shown = silicon("--plan").stdout
    assert all(f"`{name}`" in shown for name in names) and f"{script.seconds(list(script.PARTS))} s at most" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--plan", "decod"), "no part decod"),
        (("--packages", "nowhere"), "expected a folder"),
        (("--table", "none.json"), "--results"),
    ],
)
def test_wrong_usage_ends_before_anything_starts(arguments, message):
    done = silicon(*arguments)
    assert done.returncode == 2 and message in done.stderr


@pytest.fixture
def session(monkeypatch, tmp_path):
    """The script with other parts: one that passes, one that never ends, one that fails, and some that need them."""
    script = module("silicon", monkeypatch)
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "silicon_parts.py").write_text(
        "import json, os, sys, time\n"
        "name = sys.argv[1]\n"
        "def figure(name, value, unit='', against='', other=None):\n"
        "    print('FIGURE ' + json.dumps(dict(name=name, value=value, unit=unit, against=against, other=other)))\n"
        "if name == 'good':\n"
        '    print(\'MACHINE {"device": "H100", "versions": {"torch": "2.11"}}\')\n'
        "    figure('a step', 0.5, 's', 'NeMo', 1.0)\n"
        "if name == 'path': figure(os.environ['PYTHONPATH'], 1)\n"
        "if name == 'bad': sys.exit('out of luck')\n"
        "if name == 'late': time.sleep(60)\n"
        "if name == 'absent': sys.exit(5)\n",
        encoding="utf-8",
    )
    Part = script.Part
    monkeypatch.setattr(script, "HERE", parts)
    monkeypatch.setattr(
        script,
        "PARTS",
        (
            Part("good", 30, "", together=True),
            Part("late", 1, "", together=True),
            Part("bad", 30, ""),
            Part("after", 30, "", ("bad",)),
            Part("absent", 30, ""),
            Part("without", 30, "", ("absent",)),
            Part("path", 30, "", plain=True),
        ),
    )
    monkeypatch.setattr(script, "shared_memory", lambda: None)

    def run(*arguments: str) -> tuple[int, dict]:
        results = tmp_path / "results.json"
        monkeypatch.setattr(
            sys, "argv", ["silicon.py", "--results", str(results), "--root", str(tmp_path / "root"), *arguments]
        )
        code = script.main()
        return code, json.loads(results.read_text(encoding="utf-8"))

    return script, run


def test_a_part_that_fails_or_never_ends_stops_no_other(session, capsys):
    script, run = session
    code, results = run()
    states = {name: entry["status"] for name, entry in results["parts"].items()}
    assert code == 1
    assert states == {
        "good": "passed",
        "late": "timed out",
        "bad": "failed",
        "after": "not run",
        "absent": "not for this machine",
        "without": "not for this machine",
        "path": "passed",
    }
    assert "out of luck" in results["parts"]["bad"]["log"] and "out of luck" in capsys.readouterr().out
    table = script.table(results)
    assert table.startswith("H100: torch 2.11\n")
    assert "| a step | 0.5 s | NeMo | 1 s | 0.50 |" in table
    assert "| not run: bad did not pass |" in table and "| timed out |" in table


def test_what_passed_is_not_run_again(session):
    _, run = session
    _, first = run("good")
    _, second = run()
    assert second["parts"]["good"] == first["parts"]["good"] and "bad" in second["parts"]


def test_without_a_gpu_no_part_is_begun(session, monkeypatch):
    script, run = session
    Part = script.Part
    (script.HERE / "silicon_parts.py").write_text(
        "import sys; sys.exit(5 if sys.argv[1] == 'machine' else 0)", encoding="utf-8"
    )
    monkeypatch.setattr(script, "PARTS", (Part("machine", 30, ""), Part("kd", 30, "")))
    code, results = run("kd")
    assert code == 0 and {entry["status"] for entry in results["parts"].values()} == {"not for this machine"}


def test_when_the_seconds_are_over_the_rest_is_not_begun(session):
    _, run = session
    code, results = run("--limit", "5")
    assert code == 1 and {entry["status"] for entry in results["parts"].values()} == {"not run"}


def test_a_rehearsal_and_a_gpu_do_not_share_a_file(session):
    _, run = session
    run("good", "--rehearsal")
    with pytest.raises(SystemExit, match="another --results"):
        run("good")


def test_packages_are_unpacked_and_come_before_the_environment(session, tmp_path):
    import tarfile

    packages = tmp_path / "packages"
    packages.mkdir()
    (tmp_path / "a_module.py").write_text("")
    for name in ("site", "te"):
        with tarfile.open(packages / f"{name}.tar.xz", "w:xz") as file:
            file.add(tmp_path / "a_module.py", "a_module.py")
    _, run = session
    _, results = run("path", "--packages", str(packages))
    folders = results["parts"]["path"]["figures"][0]["name"].split(":")
    assert (Path(folders[1]) / "a_module.py").is_file() and folders[1].endswith("/site")
    assert not any(folder.endswith("/te") for folder in folders)  # a part without Transformer Engine


@pytest.mark.parametrize("rehearsal", ["", "1"])
def test_every_recipe_is_given_a_configuration_that_it_takes(monkeypatch, tmp_path, rehearsal):
    """Composed and validated as the part gives them, with the run's earlier results stood in for."""
    from nemo_plugins.planning import (
        alignment_plan,
        convert_plan,
        distill_plan,
        eval_plan,
        grpo_plan,
        prune_plan,
        quantize_plan,
    )
    from nemo_plugins.runs.prepare import compose

    modules = {"convert": convert_plan, "prune": prune_plan, "distill": distill_plan, "grpo": grpo_plan}
    modules |= {"quantize": quantize_plan, "eval": eval_plan}
    plans = {name: each.plan for name, each in modules.items()} | {"sft": alignment_plan.sft, "dpo": alignment_plan.dpo}
    monkeypatch.setenv("SILICON_REHEARSAL", rehearsal)
    monkeypatch.setenv("SILICON_ROOT", str(tmp_path))
    module("silicon", monkeypatch)
    parts = module("silicon_parts", monkeypatch)
    given, figures = [], []
    monkeypatch.setattr(parts, "absent", lambda package: None)
    monkeypatch.setattr(parts, "platform", lambda: ["platform=gpu", "platform.devices=1", f"run.root={parts.ROOT}"])

    def recipe(name: str, *overrides: str) -> None:
        cfg = compose([*overrides, *parts.platform()])
        plans[name](cfg)
        given.append((name, cfg))
        left(parts.ROOT / cfg.run.name / (cfg.run.stage or name))

    def left(stage: Path) -> Path:
        """What a stage leaves, in name alone."""
        for folder in ("checkpoint/context", "checkpoint/weights", "hf"):
            (stage / folder).mkdir(parents=True, exist_ok=True)
        (stage / "hf" / "config.json").write_text("{}")
        return stage / "checkpoint"

    numbers = {"peak_memory_bytes": 2**30, "seconds": 1.0, "student": {"parameters": 1}, "tasks": {"a": {"score": 0.5}}}
    monkeypatch.setattr(parts, "recipe", recipe)
    monkeypatch.setattr(parts, "random_teacher", lambda name, layers: f"teacher.path={left(parts.ROOT / name)}")
    monkeypatch.setattr(parts, "summary", lambda stage: numbers | {"metrics": {"loss_before": 1.0}})
    monkeypatch.setattr(parts, "metrics", lambda stage, key: [1.0] * 8)
    monkeypatch.setattr(parts, "figure", lambda *values, **more: figures.append(values))
    for part in (parts.chain_te, parts.chain_plain, parts.wide_prune, parts.full_prune, parts.wide_distill, parts.exports):
        part()
    assert {name for name, _ in given} == {"convert", "prune", "distill", "sft", "dpo", "grpo", "quantize", "eval"}
    packing = {cfg.run.name: str(cfg.sft.packing) for name, cfg in given if name == "sft"}
    assert packing == {"chain-te": "thd", "chain-plain": "mask"}
    assert "peak memory" in {name for name, *_ in figures}


@pytest.mark.slow
def test_a_rehearsal_of_all_parts_ends_well(tmp_path):
    results = tmp_path / "results.json"
    done = silicon("--rehearsal", "--limit", "3600", "--results", str(results), "--root", str(tmp_path / "root"))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    found = json.loads(results.read_text(encoding="utf-8"))
    assert {entry["status"] for entry in found["parts"].values()} <= {"passed", "not for this machine"}
    assert "rehearsal" in silicon("--table", str(results)).stdout
