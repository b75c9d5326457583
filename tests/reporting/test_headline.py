"""The five figures of a run, from summaries whose numbers are known."""

import json
import subprocess
import sys
from pathlib import Path

from nemo_plugins.reporting import headline


def timed(model: str, form: str, each: float, rate: float, **others) -> dict:
    return {
        "backend": "llama_cpp", "format": form, "model": model, "sequences": 1, "extrapolated": False,
        "each": {"median": each}, "tokens_per_second": {"median": rate},
    } | others  # fmt: skip


ROWS = [
    timed("teacher", "f16", 0.9e-3, 100.0, sequences=4),
    timed("teacher", "f16", 0.6e-3, 1000.0),
    timed("student", "f16", 0.4e-3, 1340.0),
    timed("teacher", "q4_k_m", 0.5e-3, 1500.0),
    timed("student", "q4_k_m", 0.4e-3, 1600.0),
]
AGAINST = {"recovery": 0.912, "recovery_interval": [0.86, 0.961]}
MODELS = {
    "teacher": {"parameters": 10_000_000, "bytes": 20_000_000, "average": 0.6},
    "sft": {"parameters": 6_800_000, "bytes": 27_200_000, "average": 0.5472, "against_teacher": AGAINST},  # written in fp32
}
EVAL = {
    "suite": {"name": "laptop", "confidence": 0.95, "averaged": ["a", "b"]},
    "teacher": "teacher", "subject": "sft", "models": MODELS,
}  # fmt: skip
STAGES = {
    "prune": {"metrics": {"loss_before": 3.0, "loss_after": 5.0}, "teacher": {"parameters": 4}, "student": {"parameters": 3}},
    "distill": {"metrics": {"val_loss": 3.1, "val_loss_first": 4.5, "teacher_val_loss": 2.9}},
    "bench": {"rows": ROWS},
    "eval": EVAL,
    "random/prune": {"metrics": {"loss_before": 3.0, "loss_after": 9.0}},
    "report": {},
}


def write(run: Path, stages: dict) -> Path:
    for second, (name, summary) in enumerate(stages.items()):
        recipe = name.rpartition("/")[2]
        known = {"started": f"2026-01-01T00:00:{second:02}+00:00", "seconds": 100.0, "command": f"python recipes/{recipe}.py"}
        (run / name).mkdir(parents=True)
        (run / name / "summary.json").write_text(json.dumps(known | summary))
    return run


def said(run: Path) -> dict[str, headline.Figure]:
    return {figure.name: figure for figure in headline.of(run)}


def test_a_run_comes_to_five_figures_in_order(tmp_path):
    found = headline.of(write(tmp_path, STAGES))
    assert [(figure.name, figure.value) for figure in found] == [
        ("size", "32.0 % smaller"),
        ("speed", "1.50 × as fast"),
        ("recovery", "91.2 %"),
        ("loss recovered", "87.5 %"),
        ("time", "8 min 20 s"),
    ]


def test_sizes_are_of_one_format_however_the_files_are_written(tmp_path):
    size = said(write(tmp_path, STAGES))["size"]
    assert size.meaning == "the student has 13.6 MB, its teacher 20.0 MB, both in bf16"
    assert size.sources == ("eval/summary.json#/models/teacher/parameters", "eval/summary.json#/models/sft/parameters")


def test_speed_compares_one_format_and_one_stream_and_says_what_the_whole_answer_gains(tmp_path):
    meaning = said(write(tmp_path, STAGES))["speed"].meaning
    assert "0.4 ms, the teacher's 0.6 ms (llama.cpp F16, one stream)" in meaning and "with the prompt 1.34 ×" in meaning


def test_recovery_has_its_interval(tmp_path):
    meaning = said(write(tmp_path, STAGES))["recovery"].meaning
    assert meaning == "of the teacher's score is kept, 95 % interval 86.0 to 96.1 (sft on laptop, 2 tasks)"


def test_the_loss_recovered_is_of_the_distillations_own_windows_where_it_measured_all_three(tmp_path):
    both = write(tmp_path / "both", STAGES)
    assert said(both)["loss recovered"].sources[0] == "distill/summary.json#/metrics/teacher_val_loss"
    older = write(tmp_path / "older", STAGES | {"distill": {"metrics": {"val_loss": 3.5}}})
    assert said(older)["loss recovered"].value == "75.0 %"
    free = write(tmp_path / "free", STAGES | {"distill": {"metrics": STAGES["distill"]["metrics"] | {"val_loss_first": 2.9}}})
    assert "loss recovered" not in said(free)


def test_what_a_run_has_not_measured_is_left_out(tmp_path):
    assert headline.of(tmp_path) == [] and headline.of(tmp_path / "nowhere") == []
    early = write(tmp_path / "early", {"prune": STAGES["prune"]})
    assert {name: figure.value for name, figure in said(early).items()} == {"size": "25.0 % smaller", "time": "1 min 40 s"}
    lost = {**MODELS["sft"], "against_teacher": {"recovery": None, "recovery_interval": None}}
    guessing = write(tmp_path / "guessing", {"eval": EVAL | {"models": MODELS | {"sft": lost}}})
    assert list(said(guessing)) == ["size", "time"]


def test_a_larger_student_is_said_to_be_larger(tmp_path):
    run = write(tmp_path, {"prune": {"teacher": {"parameters": 100}, "student": {"parameters": 125}}})
    assert said(run)["size"].value == "25.0 % larger"


def test_the_figures_cost_no_heavy_import():
    code = "import sys; from nemo_plugins.reporting import headline; print({'torch', 'matplotlib', 'nemo'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
