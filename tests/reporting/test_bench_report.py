"""The table of a benchmark: what a device's bandwidth allows is for all sequences together."""

from nemo_plugins.planning import devices
from nemo_plugins.reporting import bench_report
from nemo_plugins.runs.prepare import compose

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
