"""The report of a run: one page that needs nothing else, its pictures, and a model card for what was exported."""

from __future__ import annotations

import shlex
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.evaluation import run_outputs
from nemo_plugins.planning import publish_plan
from nemo_plugins.reporting import headline, lineage, model_card, paper_figures, paper_mean, results, scores
from nemo_plugins.reporting.lineage import Lineage
from nemo_plugins.reporting.page import Cell, Large, PageTable, Part, Picture, Section, Sourced, page
from nemo_plugins.runs.folder import write
from nemo_plugins.runs.stages import students

CARD = "README.md"


def run(cfg: Recipe, run: runs.Run) -> None:
    """Write `report.html`, `plots/` and `README.md`, and the last into the exported folder where `report.card` says so."""
    root = runs.run_root(cfg)
    chain, evaluations = lineage.read(root), scores.read(root)
    others = results.read_all(cfg.report.results)
    mean = paper_mean.measure(cfg.eval, run_outputs.stages(root), others)
    plots, timed = run.folder / "plots", False
    sections: list[Section] = []
    for evaluation in evaluations:
        speeds = lineage.speeds(chain, evaluation.models, evaluation.summary["subject"])
        sections += scores.sections(evaluation, plots, speeds)
        timed = timed or bool(speeds)
    for evaluation in evaluations:
        sections += scores.generations(evaluation, cfg.report.generations)
    sections += mean_sections(mean, run.folder.name)
    sections += result_sections(others)
    sections += lineage.sections(chain)
    sections += [
        not_run(cfg, chain, evaluations, bool(others), timed),
        lineage.versions(chain),
        _commands(chain),
        *quoted_sections(),
    ]
    for stage in chain.stages.values():
        run.input(stage.folder / "summary.json")
    for path in cfg.report.results:
        run.input(runs.resolve(path))
    lead = [*model_card.untrained(chain), *first_screen(root, evaluations, plots)]
    html = page(run.folder / "report.html", f"{cfg.run.name}: report", lead, sections)
    exported = model_card.exported(root)
    front = model_card.Front(str(cfg.run.name).replace("/", "-"), base=publish_plan.base_model(cfg))
    card = model_card.text(cfg, chain, evaluations, exported, front)
    write(run.folder / CARD, card)
    outputs = {"report": html, "card": run.folder / CARD, **({"plots": plots} if plots.is_dir() else {})}
    if exported and cfg.report.card:
        write(exported / CARD, card)
        runs.say(f"model card: {exported / CARD}")
    if mean.kept:
        runs.say(mean.words())
    run.finish(
        outputs,
        metrics={"mean_recovery": mean.mean} if mean.kept else {},
        next=shlex.join(["python", "-m", "webbrowser", html.resolve().as_uri()]),
        stages=list(chain.stages),
        evaluations=[evaluation.folder.name for evaluation in evaluations],
        paper_mean=mean.block(),
    )


def first_screen(root: Path, evaluations: list[scores.Evaluation], plots: Path) -> list[str | Picture | Large]:
    """What the page opens with: the figures of the run, what each stage keeps of the teacher, and that in words."""
    figures = headline.of(root)
    pictures = [scores.recovery_picture(evaluation, plots) for evaluation in evaluations]
    verdicts = [scores.verdict(evaluation) for evaluation in evaluations] or ["No evaluation of this run has been made yet."]
    return [*([Large(figures)] if figures else []), *filter(None, pictures), *verdicts]


def quoted_sections() -> list[Section]:
    """The paper's figures, marked as quoted."""
    paper = paper_figures.load()
    recomputed = paper_figures.recompute(paper)
    stages = [(row["model"], f"{row['english']:.2f}", f"{row['polish']:.2f}") for row in paper["stages"]]
    rows = [
        (name, f"{student:.2f}", f"{teacher:.2f}", f"{100 * ratio:.2f}") for name, student, teacher, ratio in recomputed.rows
    ]
    formats = [(row["format"], f"{row['polish']:.2f}") for row in paper["quantised"]]
    parts: list[Part] = [
        f"Quoted from {paper['source']}, of Bielik-Minitron-7B and its teacher. Nothing on this page measured them, and they "
        "cannot be compared with other suites.",
        PageTable(["student (quoted)", "English", "Polish"], stages),
        PageTable(["benchmark (quoted)", "student", "teacher", "student / teacher %"], rows),
        recomputed.words(),
        PageTable(["format (quoted)", "Open PL"], formats),
    ]
    return [Section("The paper's own figures, quoted", parts)]


def mean_sections(mean: paper_mean.PaperMean, stage: str) -> list[Section]:
    """The paper's benchmarks that this run has, and their mean; `stage`: the report's, whose summary has the numbers."""
    if not mean.kept:
        return []
    rows: list[list[Cell]] = []
    for name, one in mean.kept.items():
        at = headline.place(stage, "paper_mean", "benchmarks", name)
        error = None if one.stderr is None else Sourced(f"{100 * one.stderr:.2f}", f"{at}/stderr")
        scored = [Sourced(f"{getattr(one, role):.2f}", f"{at}/{role}") for role in ("student", "teacher")]
        rows.append([name, *scored, Sourced(f"{100 * one.ratio:.2f}", f"{at}/ratio"), error, one.source])
    teacher, student = map(scores.name, mean.names)
    header = ["benchmark", student, teacher, "student / teacher %", "±", "from"]
    asked = "Scores as the paper has them, the mean of the ratios; ± is the ratio's standard error, of the items alone."
    return [Section("The paper's benchmarks, of this run", [mean.words(), PageTable(header, rows), asked])]


def result_sections(others: list[results.ExternalBenchmark]) -> list[Section]:
    """Results of judges and of tool calling, as their files have them."""
    parts = []
    for one in others:
        columns = list(dict.fromkeys(what for values in one.scores.values() for what in values))
        rows = [[model, *(_plain(values.get(what)) for what in columns)] for model, values in one.scores.items()]
        said = f"From {one.file}{f', {one.source}' if one.source else ''}; shown as given, not recomputed here."
        parts.append(Section(f"{one.benchmark} (measured elsewhere)", [said, PageTable(["model", *columns], rows)]))
    return parts


def not_run(cfg: Recipe, chain: Lineage, evaluations: list[scores.Evaluation], has_evaluation: bool, timed: bool) -> Section:
    """What a reader might look for and this run has not."""
    done = {stage.recipe for stage in chain.stages.values()}
    suites = {evaluation.suite["name"] for evaluation in evaluations}
    rows = [(f"stage {recipe}", "not in this run") for recipe in reversed(students()) if recipe not in done]
    rows += [(f"suite {suite}", "not run") for suite in cfg.language.evaluation if suite not in suites]
    for evaluation in evaluations:
        rows += [(f"{evaluation.suite['name']}: {what}", why) for what, why in evaluation.summary.get("not_run", {}).items()]
        if evaluation.suite["limit"]:
            rows.append((f"{evaluation.suite['name']}: items", f"all but the first {evaluation.suite['limit']} of each task"))
    if "quantize" not in done:
        rows.append(("quantisation", "no quantised model in this run"))
    if not timed:
        rows.append(("speed", "not measured in this run"))
    if not has_evaluation:
        rows.append(("judges and tool calling (EQ-Bench, CPTUB, BFCL …)", "no result files given: report.results=[…]"))
    return Section("What was not run", [PageTable(["", ""], rows)])


def _commands(chain: Lineage) -> Section:
    return Section("Commands", [PageTable(["stage", "command"], lineage.commands(chain))])


def _plain(number: float | None) -> str | None:
    return None if number is None else f"{number:g}"
