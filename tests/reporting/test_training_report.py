"""The training report says what the lines show and no more; its pictures follow their numbers."""

import math
import re
import statistics

import pytest

from nemo_plugins.reporting import training_plots, training_report
from nemo_plugins.reporting.training_report import Trained

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

NAN = math.nan


def distillation(steps=200, every=50):
    """Lines of a distillation with two held-out sets: the main one falls, `en` rises."""
    lines = []
    for step in range(1, steps + 1):
        kd, ce = 0.9 + 0.3 / step + 0.01 * (step % 7), 1.8 + 0.2 / step
        lines.append({"step": step, "loss": 0.9 * kd + 0.1 * ce, "kd_loss": kd, "ce": ce, "agreement": 0.7 + step / 1000})
        lines[-1] |= {"grad_norm": 20 / step, "lr": 1e-4 * (1 - step / 300), "tokens_per_second": 1000.0 + step, "mfu": 0.4}
        lines[-1]["peak_memory_bytes"] = 2**30 * (3 if step == 50 else 2)
        if step % every == 0:
            lines.append({"step": step, "val_loss": 2 + 10 / step, "val_kl": 5 / step, "val_agreement": 0.6 + step / 1000})
            lines[-1] |= {"val_loss_en": 2.5 + step / 1000, "val_kl_en": 0.3, "val_agreement_en": 0.55}
    return lines


def shown(html):
    """Paragraphs of the lead, and rows by their first cell."""
    lead = re.findall(r"<p>(.*?)</p>", html.split("<h2>")[0])
    rows = [re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return lead, {cells[0]: cells[1:] for cells in rows}


def test_the_report_has_the_numbers_that_it_was_given(tmp_path):
    lines = distillation()
    facts = {"student parameters": 7_477_727_232, "loss kind": "forward <KL>"}
    trained = Trained("run: distill", iter(lines), facts, (1.12, 0.89), ["resumed at step 120"])
    outputs = training_report.write(tmp_path, trained)
    html = outputs["report"].read_text()
    lead, rows = shown(html)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert f"from {losses[0]:.4f} at step 1 to {losses[-1]:.4f} at step 200" in lead[0]
    assert f"median of the last tenth of the logged ones is {statistics.median(losses[180:]):.4f}" in lead[0]
    assert "from 2.2000 at step 50 to 2.0500 at step 200" in lead[1] and "still falling: −0.0167 from step 150" in lead[1]
    assert "en from 2.5500 to 2.7000 (+0.1500)" in lead[2]
    assert "at 80.0% of the held-out tokens of step 200, and was at 65.0%" in lead[3] and "from 0.1000 to 0.0250" in lead[3]
    assert lead[4] == "No update was skipped, of 200 logged steps."
    assert "of en went from 2.5500" in html and "At the end it was rising: +0.0500 from step 150 to step 200" in html
    assert rows["student parameters"] == ["7,477,727,232"] and rows["loss kind"] == ["forward &lt;KL&gt;"]
    assert "resumed at step 120" in rows
    assert rows["step"] == ["loss", "loss, en", "KL", "KL, en", "agreement", "agreement, en", ""]
    assert rows["50"] == ["2.2000", "2.5500", "0.1000", "0.3000", "65.00 %", "55.00 %", ""]
    assert rows["200"][-1] == "lowest loss"
    assert "1,100 tokens a second" in html and "40.0% of the devices" in html and "3.00 GiB" in html
    assert "most 20.0000 at step 1" in html and "(1.12)" in html
    drawn = sorted(path.name for path in outputs["plots"].iterdir())
    assert drawn == ["agreement.png", "curves.png", "health.png", "heldout.png", "speed.png"]
    assert html.count("src=") == html.count('src="data:image/png;base64,') == 5 and "href=" not in html


def test_what_was_not_measured_is_left_out(tmp_path):
    lines = [{"step": step, "loss": 3.0 / step} for step in (1, 2, 3)]
    outputs = training_report.write(tmp_path, Trained("pretrain", lines, {}))
    html = outputs["report"].read_text()
    assert [path.name for path in outputs["plots"].iterdir()] == ["curves.png"]
    assert "No held-out loss was measured." in html
    assert not any(
        word in html for word in ("teacher", "Agreement", "Health", "Speed", "Bielik", "What was trained", "tenth of")
    )


@pytest.mark.parametrize("lines", [[], [{"loss": 2.0}], [{"step": 1, "lr": None}]])
def test_nothing_to_show_is_said(tmp_path, lines):
    outputs = training_report.write(tmp_path, Trained("empty", lines, {}))
    html = outputs["report"].read_text()
    assert set(outputs) == {"report"} and "<img" not in html
    assert "No training loss was logged." in html and "No held-out loss was measured." in html


@pytest.mark.parametrize("bad", [None, NAN, math.inf])
def test_losses_that_were_never_finite_are_said_in_words(tmp_path, bad):
    lines = [{"step": step, "loss": bad, "grad_norm": bad} for step in (1, 2)] + [{"step": 2, "val_loss": bad, "val_kl": bad}]
    outputs = training_report.write(tmp_path, Trained("broken", lines, {}, (1.12, 0.89)))
    lead, rows = shown(outputs["report"].read_text())
    assert lead[0] == "The training loss was never finite, over 2 logged steps."
    assert lead[1] == "The held-out loss was never finite, over 1 validation."
    assert rows["2"] == ["not finite", "not finite", ""] and "plots" not in outputs


@pytest.mark.parametrize(
    "values, said, unsaid",
    [
        ({5: 2.0}, ["was 2.0000 at step 5, the only validation", "not known"], ["falling", "lowest"]),
        (
            {5: 2.0, 9: 1.9},
            ["still falling: −0.1000 from step 5 to step 9", "No validation was better than the last"],
            ["rising"],
        ),
        (
            {5: 2.0, 9: 1.8, 13: 1.9},
            ["rising: +0.1000", "lowest was 1.8000 at step 9, 0.1000 below that of step 13"],
            ["falling"],
        ),
        ({5: 2.0, 9: 1.8, 13: 1.79995}, ["level: −5e-05"], ["rising", "falling"]),
        ({5: 2.0, 9: 1.8, 13: NAN}, ["to 1.8000 at step 9", "not finite at step 13", "not known"], ["better than", "rising"]),
        ({5: 2.0, 9: NAN}, ["was 2.0000 at step 5.", "not finite at step 9", "not known"], ["went", "lowest"]),
        ({5: NAN, 9: 2.0, 13: 1.9}, ["from 2.0000 at step 9", "not finite at step 5.", "still falling"], ["not known"]),
    ],
)
def test_the_heldout_verdict_follows_the_numbers(values, said, unsaid):
    verdict = training_report.heldout_verdict(values)
    assert all(text in verdict for text in said) and not any(text in verdict for text in unsaid), verdict


def test_skipped_steps_are_named_and_are_no_part_of_the_curve():
    lines = [{"step": step, "loss": 1.0, "kd_loss": 1.0} for step in range(1, 31)]
    lines[11] |= {"loss": 900.0, "kd_loss": 900.0, "skipped": 1}
    lines[29] |= {"loss": None, "kd_loss": None, "skipped": 1}
    assert training_report.skipped_verdict(lines) == "The update of steps 12 and 30 was skipped, of 30 logged steps."
    assert training_report.loss_verdict(lines).startswith("The training loss went from 1.0000 at step 1 to 1.0000 at step 29;")
    assert "not finite" not in training_report.loss_verdict(lines)
    assert set(training_plots.taken(lines, "loss").values()) == {1.0}
    many = [line | {"skipped": 1} for line in lines]
    assert "4, 5, 6, 7, 8 and 22 more was skipped" in training_report.skipped_verdict(many)


def test_a_loss_that_was_lost_on_the_way_is_said():
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3, "loss": 1.5}]
    assert training_report.loss_verdict(lines).endswith("1.5000 at step 3. It was not finite at step 2.")


def test_a_loss_is_drawn_once():
    lines = distillation(10)
    assert set(training_plots.losses(lines)) == {"loss", "kd_loss", "ce"}
    pure = [line | {"loss": line["kd_loss"] * (1 + 1e-6)} for line in lines if "loss" in line]
    assert set(training_plots.losses(pure)) == {"loss", "ce"}
    assert set(training_plots.losses([line | {"loss": line["ce"]} for line in pure])) == {"loss", "kd_loss"}
    assert set(training_plots.losses([line | {"loss": None} for line in pure])) == {"kd_loss", "ce"}


def test_lines_of_a_resume_stand():
    lines = [{"step": 2, "loss": 5.0}, {"step": 1, "loss": 9.0}, {"step": 2, "loss": 4.0}, {"step": 2, "val_loss": 7.0}]
    assert list(training_plots.series(lines, "loss").items()) == [(1, 9.0), (2, 4.0)]


def test_heldout_sets_have_their_names_and_the_main_one_is_first():
    lines = [{"step": 1, "val_loss_de": 1.0, "val_loss": 2.0, "val_loss_en_news": 3.0, "val_kl": 4.0}]
    assert list(training_plots.sets(lines, "val_loss")) == ["", "de", "en_news"]


def test_the_running_median_ignores_outliers_and_keeps_gaps():
    values = [5.0, 4.0, 3.0, 100.0, 3.0, NAN, 2.0, 2.5, 2.0]
    smooth = training_plots.running_median(values, 5)
    wanted = [5.0, 4.0, 4.0, 3.5, 3.0, NAN, 2.25, 2.0, 2.0]  # by hand: windows [0], [0–2], [0–4], [1–5], [2–6], –, [4–8], …
    assert smooth == pytest.approx(wanted, nan_ok=True)


def test_a_long_table_is_thinned_but_keeps_the_lowest_and_the_last(tmp_path):
    lines = [{"step": step, "val_loss": 2.0 + abs(step - 77) / 100} for step in range(1, 301)]
    html = training_report.write(tmp_path, Trained("long", lines, {}))["report"].read_text()
    _, rows = shown(html)
    assert "One in 5 of 300 validations" in html and len([name for name in rows if name.isdigit()]) == 62
    assert rows["77"] == ["2.0000", "lowest loss"] and rows["300"] == ["4.2300", ""] and "2" not in rows


def test_pictures_follow_their_numbers(tmp_path):
    lines = distillation()
    drawers = {
        training_plots.curves: "ce",
        training_plots.heldout: "val_kl_en",
        training_plots.agreement: "val_agreement",
        training_plots.health: "grad_norm",
        training_plots.speed: "mfu",
    }
    for draw, key in drawers.items():
        first = draw(tmp_path / "a.png", lines).read_bytes()
        moved = [line | {key: line[key] * (0.5 + line["step"] / 400)} if key in line else line for line in lines]
        assert first != draw(tmp_path / "b.png", moved).read_bytes() and len(first) > 5000
        assert draw(tmp_path / "none.png", [{"step": 1, "other": 1.0}]) is None and not (tmp_path / "none.png").exists()
    skips = [line | {"skipped": 1} if line["step"] == 60 and "loss" in line else line for line in lines]
    for draw in (training_plots.curves, training_plots.health):
        assert draw(tmp_path / "a.png", lines).read_bytes() != draw(tmp_path / "b.png", skips).read_bytes()
    plain = training_plots.curves(tmp_path / "a.png", lines).read_bytes()
    assert plain != training_plots.curves(tmp_path / "b.png", lines, (1.12, 0.89)).read_bytes()


@pytest.mark.filterwarnings("error")
def test_odd_numbers_are_drawn(tmp_path):
    lines = [{"step": 1, "loss": 2.0, "grad_norm": 0.0, "lr": 0.0, "tokens_per_second": 5.0}, {"step": 1, "val_loss_a$b$": 0.0}]
    lines.append({"step": 2, "loss": None, "grad_norm": None, "skipped": 1, "mfu": None})
    for draw in (training_plots.curves, training_plots.heldout, training_plots.health, training_plots.speed):
        assert draw(tmp_path / "a.png", lines).stat().st_size > 3000


def won(start: float | None, end: float, teacher: float | None = 2.0) -> list[dict]:
    """Validations of a distillation of three steps."""
    known = {} if teacher is None else {"teacher_val_loss": teacher}
    lines = [{"step": step, "loss": 1.0} for step in (1, 2, 3)] + [{"step": 3, "val_loss": end, **known}]
    return lines if start is None else [{"step": 0, "val_loss": start, **known}, *lines]


def test_a_distillation_says_what_it_won_back(tmp_path):
    said = training_report.won_back(won(4.0, 2.5))
    assert "the teacher's loss is 2.0000, the student's was 4.0000 before step 1" in said
    assert said.endswith("is 2.5000 now: 75.0% of the gap is won back.")
    assert "75.0% of the gap" in training_report.write(tmp_path, Trained("distill", won(4.0, 2.5), {}))["report"].read_text()
    assert "nothing to win back" in training_report.won_back(won(1.9, 1.8))
    assert training_report.won_back(won(None, 2.5)) == training_report.won_back(won(4.0, 2.5, None)) == ""


def test_the_held_out_picture_has_the_teachers_loss_and_the_start_as_lines(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(training_plots, "write_png", lambda figure, path: drawn.append(figure) or path)
    lines = won(4.0, 2.5)
    lines[0] |= {"val_loss_en": 5.0, "teacher_val_loss_en": 3.0}
    training_plots.heldout(tmp_path / "heldout.png", lines)
    level = {line.get_label(): set(line.get_ydata()) for line in drawn[0].axes[0].lines if len(set(line.get_ydata())) == 1}
    assert level["teacher (2.000)"] == {2.0} and level["student before step 1 (4.000)"] == {4.0}
    assert level["teacher, en (3.000)"] == {3.0} and level["student before step 1, en (5.000)"] == {5.0}
