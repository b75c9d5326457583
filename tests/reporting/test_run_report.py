"""The report of a run on its first screen: figures, what is kept, in one format; what is quoted stands last."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_plugins.reporting import eval_plots, headline, lineage, run_report, scores
from nemo_plugins.reporting.eval_plots import Model

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = {"score": 0.7, "stderr": 0.03, "baseline": 0.25, "normalised": 0.6, "interval": [0.5, 0.7], "items": 50, "metric": "acc"}
KEPT = {"pruned": 0.05, "distilled": 0.88, "sft": 0.93, "dpo": 0.94, "grpo": 0.95}


def model(parameters: int, average: float, stored: str = "fp32", **others) -> dict:
    width = {"fp32": 4, "bf16": 2}[stored]
    served = {"format": "bf16", "bytes": 2 * parameters}
    spread = [average - 0.04, average + 0.04]
    return {
        "path": "", "parameters": parameters, "bytes": width * parameters, "stored_as": stored, "quantised": None,
        "served": served, "tasks": {"agreement": TASK}, "average": average, "average_interval": spread,
    } | others  # fmt: skip


def quantised(form: str, size: int, average: float) -> dict:
    stored = {"parameters": None, "bytes": size, "stored_as": form, "quantised": "gguf"}
    return model(1, average) | stored | {"served": {"format": form, "bytes": size}}


def evaluated() -> dict:
    models = {"teacher": model(9_965_824, 0.64, "bf16")}
    for name, share in KEPT.items():
        recovery = {"recovery": share, "recovery_interval": [share - 0.05, share + 0.04], "p": 0.02, "difference": -0.03}
        models[name] = model(6_819_072, 0.64 * share, against_teacher=recovery)
    models |= {"q8_0": quantised("q8_0", 7_350_000, 0.6), "q4_k_m": quantised("q4_k_m", 4_340_000, 0.59)}
    models["teacher-q4_k_m"] = quantised("q4_k_m", 6_300_000, 0.63)
    suite = {
        "name": "laptop", "title": "offline probes of Polish", "source": "", "averaged": ["agreement"], "confidence": 0.95,
        "forms": {"agreement": "choice"}, "resamples": 1000, "limit": None,
    }  # fmt: skip
    return {"suite": suite, "teacher": "teacher", "subject": "grpo", "models": models, "tasks": models["grpo"]["tasks"]}


def rows(*formats: str) -> list[dict]:
    found = []
    for number, (form, role) in enumerate(itertools.product(formats, ("teacher", "student"))):
        rate = 1000.0 + 100 * number
        timed = {"tokens_per_second": {"median": rate}, "each": {"median": 1 / rate}}
        found.append({"backend": "llama_cpp", "format": form, "model": role, "sequences": 1, "extrapolated": False} | timed)
    return found


def write(root: Path, **stages: dict) -> Path:
    run = root / "tiny_pl"
    whole = {
        "prune": {"metrics": {"loss_before": 3.0, "loss_after": 4.0}},
        "distill": {"metrics": {"val_loss": 3.1, "val_loss_first": 4.0, "teacher_val_loss": 3.0}},
        "bench": {"rows": rows("f16", "q4_k_m")},
        "eval": evaluated(),
    } | stages
    for second, (name, summary) in enumerate(whole.items()):
        known = {"started": f"2026-01-01T00:00:{second:02}+00:00", "seconds": 200.0, "command": f"python recipes/{name}.py"}
        (run / name).mkdir(parents=True)
        (run / name / "summary.json").write_text(json.dumps({"inputs": {}, "outputs": {}} | known | summary))
    return run


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("runs")
    run = write(root)
    command = [sys.executable, str(REPOSITORY / "recipes" / "report.py"), "+model=tiny_pl", f"run.root={root}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return run, (run / "report" / "report.html").read_text()


def test_the_page_opens_with_the_figures_and_what_each_stage_keeps(page):
    run, html = page
    opening = html.partition("<h2>")[0]
    places = [opening.index(f">{figure.value}<") for figure in headline.of(run)]
    assert len(places) == 5 and places == sorted(places)
    assert (
        places[-1] < opening.index('alt="laptop: what each stage keeps of the teacher"') < opening.index("On laptop, GRPO has")
    )
    assert html.count("what each stage keeps of the teacher") == 1


def test_what_is_quoted_stands_last(page):
    assert page[1].split("<h2>")[-1].startswith("The paper&#x27;s own figures, quoted")


def test_sizes_are_compared_in_one_format_and_the_type_on_the_disk_is_said(page):
    html = page[1]
    assert 'title="eval/summary.json#/models/grpo/served/bytes">13.6<' in html
    assert 'title="eval/summary.json#/models/teacher/served/bytes">19.9<' in html
    assert "GRPO is written in fp32 (27.3 MB)" in html and "teacher is written" not in html


def rates(tmp_path: Path, *formats: str) -> dict[str, tuple[float, str]]:
    run = write(tmp_path, bench={"rows": rows(*formats)})
    chain, [made] = lineage.read(run), scores.read(run)
    found = lineage.speeds(chain, made.models, made.summary["subject"])
    return {name: (rate.tokens_per_second, rate.how) for name, rate in found.items()}


def test_a_rate_stands_on_the_model_of_its_format(tmp_path):
    assert rates(tmp_path, "q4_k_m", "f16") == {
        "teacher-q4_k_m": (1000.0, "llama.cpp Q4_K_M"),
        "q4_k_m": (1100.0, "llama.cpp Q4_K_M"),
        "teacher": (1200.0, "llama.cpp F16"),
        "grpo": (1300.0, "llama.cpp F16"),
    }


def test_no_quantised_rate_stands_on_weights_in_bf16(tmp_path):
    assert rates(tmp_path, "q4_k_m").keys() == {"teacher-q4_k_m", "q4_k_m"}


def test_an_evaluation_without_sizes_in_one_format_gets_them(tmp_path):
    older = evaluated()
    for block in older["models"].values():
        del block["served"]
    [made] = scores.read(write(tmp_path, eval=older))
    assert made.models["grpo"]["served"] == {"format": "bf16", "bytes": 2 * 6_819_072}


def test_labels_of_the_size_quality_picture_do_not_lie_on_each_other():
    alike = [Model(f"stage {number}", 13.6, 60.0 + 0.1 * number, speed=1000.0 + number) for number in range(6)]
    models = [Model("teacher", 19.9, 64.0), *alike, Model("q4_k_m", 4.3, 59.0), Model("far below", 13.6, 2.0)]
    figure, labels = eval_plots.draw_scatter(models, "quality against size", "MB")
    boxes = [label.get_tightbbox(figure.canvas.get_renderer()) for label in labels]
    texts = [super(type(label), label).get_window_extent(figure.canvas.get_renderer()) for label in labels]
    assert len(boxes) == len(models)
    for one, other in itertools.combinations(texts, 2):
        assert not one.overlaps(other), (one, other)
    width, height = figure.get_size_inches() * figure.dpi
    assert all(0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height for box in texts)
    eval_plots.pyplot.close(figure)


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.0, 0.0, 0.02], [0.0, 0.1, 0.2]),
        ([1.0, 0.2, 1.0], [0.9, 0.2, 1.0]),
        ([0.1, 0.9], [0.1, 0.9]),
        ([], []),
    ],
)
def test_places_are_spread_no_more_than_they_need(places, wanted):
    assert eval_plots.spread(places, 0.1) == pytest.approx(wanted)


def test_the_first_screen_without_an_evaluation_says_so(tmp_path):
    assert run_report.first_screen(tmp_path, [], tmp_path) == ["No evaluation of this run has been made yet."]
