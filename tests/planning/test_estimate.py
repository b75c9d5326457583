"""What a plan says of the paper's recipe and of the model that ships, and what it leaves behind."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nemo_plugins.configs.schema import Format
from nemo_plugins.planning import cost_plan, devices, estimate
from nemo_plugins.reporting import plan_report
from nemo_plugins.reporting.bars import Bar, bars
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name

REPOSITORY = Path(__file__).resolve().parents[2]
ON_16 = ("platform.kind=gpu", "platform.devices=8", "platform.nodes=2", "platform.tensor_parallel=4")


pytestmark = pytest.mark.usefixtures("plain_call")


def config(*overrides, model="bielik11b"):
    return compose([f"+model={model}", *overrides])


def table(made, start):
    return next(part for part in made.tables if part.title.startswith(start))


def test_arithmetic_and_hours_by_hand():
    made = estimate.make(config(*ON_16, "plan.gpu=h200", "plan.mfu=0.4"))
    student, teacher = 7_346_130_944, 11_037_200_384  # weights that multiply a token, and the norms' few
    norms = (2 * 40 + 1) * 4096, (2 * 50 + 1) * 4096
    attention = 40 * 4096 * 8193, 50 * 4096 * 8193  # layers x width x (positions + 1), the causal half
    flops = 3 * 2 * (student - norms[0] + attention[0]) + 2 * (teacher - norms[1] + attention[1])
    assert made.flops == flops * 8_000 * 1_000 * 8192
    assert made.gpus == 16
    assert made.gpu_hours == pytest.approx(made.flops / (989.4e12 * 0.4) / 3600)
    assert made.days == pytest.approx(made.gpu_hours / 16 / 24)


def test_the_papers_hours_say_which_assumptions_reach_them():
    made = cost_plan.plan(config(*ON_16))
    rows = table(made, "The paper's 8,000 steps").rows
    marked = {(row[0].split()[0], mfu) for row in rows for mfu, cell in zip(estimate.MFUS, row[1:], strict=True) if "*" in cell}
    assert marked == {("2,048", 0.3), ("2,048", 0.4)}
    for row in rows:
        for cell in row[1:]:
            assert ("*" in cell) == (48 <= float(cell.split()[0]) <= 72)
    assert "2,048 tokens at MFU 0.3; 2,048 tokens at MFU 0.4" in table(made, "What 48 to 72 h imply").title


def test_the_implied_sequence_length_takes_the_stated_hours():
    made, gpu = estimate.make(config()), devices.load("h200", "gpu")
    for hours in (48, 72):
        length = made.seq_length_of(hours, 0.4, gpu, 16, 8_000_000)
        # `hours` wants a whole length: a straight line between its neighbours
        below, above = (made.hours(int(length) + more, 0.4, gpu, 16, 8_000_000) for more in (0, 1))
        assert below + (above - below) * (length - int(length)) == pytest.approx(hours, rel=1e-6)


def test_other_teachers_have_no_row_of_the_papers():
    titles = [part.title for part in cost_plan.plan(config(model="tiny_pl")).tables]
    assert not [title for title in titles if "paper" in title]
    cells = [cell for part in cost_plan.plan(config("prune.num_layers=44")).tables for row in part.rows for cell in row]
    assert not [cell for cell in cells if "quoted" in str(cell)]  # the paper measured its own student


def test_every_format_is_held_against_the_device():
    made = estimate.make(config("plan.device=rtx4090", "plan.context=8192"))
    fits = {format: tuple(made.served(model, format).fits for model in (made.teacher, made.student)) for format in Format}
    assert fits[Format.bf16] == (False, True)  # the point of the paper's size: 16.3 GB of 23.2
    assert fits[Format.fp32] == (False, False) and fits[Format.q4_k_m] == (True, True)
    rows = table(cost_plan.plan(config()), "Weights on RTX 4090").rows
    assert rows[1] == ("bf16 (plan.format)", "22.34 GB", "14.96 GB", "no", "fits", "23.56", "15.91", "+48.1%")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ((), " GiB on each GPU, 80.0 GiB are there"),
        (("plan.device=laptop16",), "the student does not fit plan.device=laptop16 in plan.format=bf16"),
        (("plan.context=40000",), "plan.context=40000: the model's own context is 32768"),
    ],
)
def test_what_does_not_fit_is_a_warning(overrides, says):
    assert any(says in warning for warning in cost_plan.plan(config(*overrides)).warnings)


def test_what_fits_is_not():
    made = cost_plan.plan(config(*ON_16, "plan.gpu=h200", "plan.format=q8_0"))
    assert made.warnings == [] and made.missing == []


def test_the_layouts_that_a_plan_recommends_fit_with_a_fifth_to_spare():
    words = ("experiment=minitron_7b", "platform.gpu=a100-40")
    rows = table(cost_plan.plan(config(*words)), "Layouts for 2 x 8 A100").rows
    assert [row[0] for row in rows] == ["distill", "sft", "dpo", "grpo"]
    for stage, overrides, *_ in rows:
        cost = by_name()[stage].planned(config(*words, *overrides.split())).cost
        assert cost.bytes * 1.2 <= cost.room == 40 * 2**30


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("plan.gpus=0", "plan.gpus=0"),
        ("plan.context=0", "plan.context=0"),
        ("plan.mfu=1.5", "plan.mfu=1.5: expected a share"),
        ("plan.gpu=a100", "plan.gpu=a100: no such device"),
        ("plan.device=a100", "plan.device=a100: no such device"),
        ("distill.seq_length=65536", "distill.seq_length=65536"),
        ("prune.num_layers=51", "prune.num_layers=51"),
    ],
)
def test_assumptions_that_cannot_be_are_refused(override, says):
    with pytest.raises(UserError, match=says):
        cost_plan.plan(config(override))


def test_disk_counts_tokens_by_the_vocabulary():
    made = estimate.make(config(*ON_16))
    assert made.disk["training text as tokens, 2 bytes each, read once"] == 2 * 65_536_000_000
    llama = estimate.make(config(model="llama31_8b"))  # 128,256 tokens do not fit 16 bits
    assert any("4 bytes each" in name for name in llama.disk)


@pytest.mark.long
def test_the_command_leaves_a_summary_and_a_page(tmp_path):
    command = [sys.executable, str(REPOSITORY / "recipes" / "plan.py"), "+model=bielik11b", "platform.devices=8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "14.96 GB" in done.stdout and "dry run" not in done.stdout
    folder = tmp_path / "runs" / "bielik11b" / "plan"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["teacher"]["parameters"] == 11_168_796_672 and summary["student"]["parameters"] == 7_477_727_232
    assert summary["teacher"]["parameters_paper"] == 11_037_200_384 and summary["student"]["parameters_paper"] == 7_346_130_944
    assert summary["distillation"]["gpus"] == 8 and summary["metrics"]["gpu_hours"] > 3000
    page = (folder / "report.html").read_text()
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert "<script" not in page and not re.search(r"""(src|href)\s*=\s*["']?http""", page)


def test_text_of_the_page_is_escaped(tmp_path):
    cfg = config()
    cfg.model.name = "<b>&"
    made = cost_plan.plan(cfg)
    page = plan_report.write(tmp_path / "report.html", made, estimate.make(cfg)).read_text()
    assert "<b>&" not in page and "&lt;b&gt;&amp;" in page
    drawing = bars("<b>", [Bar('"a" & <i>', 2.0, "<2>"), Bar("none", 0.0, "0")], (3.0, "<line>"))
    texts = [text.text for text in ElementTree.fromstring(drawing).iter("text")]
    assert texts == ["<b>", '"a" & <i>', "<2>", "none", "0", "<line>"]
