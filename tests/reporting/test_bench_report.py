"""The table of a benchmark: what a device's bandwidth allows is for all sequences together."""

import pytest

from nemo_plugins.planning import devices
from nemo_plugins.planning.bench_plan import ROLES
from nemo_plugins.reporting import bench_report
from nemo_plugins.runs.prepare import compose
from nemo_plugins.serving import bench

SPREAD = {"median": 1.0, "low": 0.9, "high": 1.1}


def row(model: str, sequences: int) -> dict:
    timed = dict.fromkeys(("tokens_per_second", "each", "first"), SPREAD)
    where = {"backend": "llama_cpp", "format": "q8_0", "path": "file.gguf", "extrapolated": False}
    return where | timed | {
        "model": model, "sequences": sequences, "bytes_moved": 15e9, "peak_bytes": {"host": 1}, "joules_per_token": None,
    }  # fmt: skip


def test_the_bound_of_several_sequences_is_that_of_one_reading_of_the_weights():
    cfg = compose(["+model=tiny_pl", "bench.device=rtx4090"])
    rows = [row("student", sequences) for sequences in (1, 8)]
    bounds = [cells[4] for cells in bench_report.cells(cfg, rows, ["student"]) if cells[0].startswith("bound")]
    one = devices.load("rtx4090", "bench.device").bytes_per_second / 15e9
    assert bounds == [f"{one:,.4g}", f"{8 * one:,.4g}"]


def timed(model: str, rate: float, each: float) -> dict:
    spread = {
        "tokens_per_second": {"median": rate, "low": rate, "high": rate},
        "each": {"median": each, "low": each, "high": each},
    }
    return row(model, 1) | spread


def test_each_ratio_stands_behind_the_number_that_it_is_of():
    rows = [timed("teacher", 1000.0, 0.00067), timed("student", 1430.0, 0.0005)]
    student = dict(
        zip(bench_report.COLUMNS, bench_report.cells(compose(["+model=tiny_pl"]), rows, list(ROLES))[1], strict=True)
    )
    names = bench_report.COLUMNS
    assert student["x tokens/s"] == "x1.430" and names.index("x tokens/s") - names.index("tokens/s") == 2  # quartiles between
    assert student["x a token"] == "x1.340" and names.index("x a token") == names.index("ms a token") + 1
    said = bench.line(rows, "llama_cpp", "q8_0")
    assert "student 1,430 tokens/s (x1.430)" in said and "a token x1.340" in said


def test_the_papers_ratios_are_of_its_own_rows():
    table = bench_report.paper()
    teacher, student = (dict(zip(table.columns, cells, strict=True)) for cells in table.rows)
    for numbers, ratio, inverse in (("tokens/s", "x tokens/s", False), ("ms a token", "x a token", True)):
        low, high = float(teacher[numbers]), float(student[numbers])
        assert float(student[ratio][1:]) == pytest.approx(low / high if inverse else high / low, abs=2e-3)


def test_extrapolation_is_mentioned_only_where_a_row_is_extrapolated():
    rows = [row("teacher", 1), row("student", 1)]
    assert bench_report.title(rows) == "Speed"
    assert "*" in bench_report.title([*rows, row("student", 1) | {"extrapolated": True}])
