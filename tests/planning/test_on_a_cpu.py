"""What a plan says of a CPU: its precision, its memory and files against measured ones, its time, its text."""

import pytest

from nemo_plugins.configs.schema import Precision
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, cost_plan, memory, pace, text_size
from nemo_plugins.platforms import arithmetic
from nemo_plugins.runs import UserError, output
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name

MARGIN = 0.15  # of a memory estimate, either way
# tiny_pl, and a teacher of 135 M parameters with tied embeddings
TINY = Architecture(8, 256, 1024, 8, 4, 32, 4096)
SMOL = Architecture(30, 576, 1536, 9, 3, 64, 49152, tied_embeddings=True)


pytestmark = pytest.mark.usefixtures("plain_call")


def config(*overrides):
    return compose(["+model=tiny_pl", "platform=cpu", *overrides])


def native(monkeypatch, has: bool):
    monkeypatch.setattr(arithmetic, "multiplies_bf16", lambda: has)


def test_auto_is_bf16_where_the_cpu_multiplies_it(monkeypatch):
    for has, expected in ((True, Precision.bf16), (False, Precision.fp32)):
        native(monkeypatch, has)
        assert checks.precision(config()) is expected
        assert checks.precision(config("platform.precision=auto")) is expected
        for given in ("bf16", "fp32"):
            assert checks.precision(config(f"platform.precision={given}")).value == given
        assert checks.precision(compose(["+model=bielik11b"])) is Precision.bf16  # planned for GPUs


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("model name\t: an avx512_bf16 lookalike", False),
    ],
)
def test_the_flags_of_the_cpu_decide(tmp_path, line, has):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert arithmetic.multiplies_bf16(file) is has
    assert not arithmetic.multiplies_bf16(tmp_path / "none")


@pytest.mark.parametrize("recipe", ["prune", "distill", "sft"])
def test_the_plan_says_the_precision_and_why(monkeypatch, recipe):
    native(monkeypatch, False)
    rows = {row[0]: row[1] for table in by_name()[recipe].planned(config()).tables for row in table.rows}
    assert rows["precision"] == "fp32 (platform.precision=auto: this CPU has no bf16 products of its own)"


@pytest.mark.parametrize(
    ("model", "tokens", "seen"),
    [(TINY, 256, 1214 * 2**20), (SMOL, 512, 1773 * 2**20), (SMOL, 2048, 3.03e9)],  # peaks of real processes on Linux, fp32
)
def test_planned_memory_of_pruning_is_what_was_seen(model, tokens, seen):
    assert memory.pruning_on_cpu(model, tokens, config().platform, 4).total == pytest.approx(seen, rel=MARGIN)


@pytest.mark.parametrize(("model", "seen"), [(TINY, 833 * 2**20), (SMOL, 1187 * 2**20), (SMOL, 1.31e9)])  # in bf16
def test_planned_memory_of_a_conversion_is_what_was_seen(model, seen):
    assert memory.CONVERSION_PROCESS + memory.conversion(model, 2) == pytest.approx(seen, rel=MARGIN)


def test_the_plan_shows_the_memory_of_the_process_itself():
    rows = {row[0]: row[1] for table in by_name()["prune"].planned(config()).tables for row in table.rows}
    assert rows["process"] == "1.0 GiB"


def test_compensation_is_planned_where_the_ffn_is_cut():
    def planned(recipe: str, *overrides: str):
        return by_name()[recipe].planned(config(*overrides))

    plain, compensated = planned("prune"), planned("prune", "prune.compensate=true")
    rows = {row[0]: row[1] for table in compensated.tables for row in table.rows}
    assert rows["compensation"] == "another pass, 16,384 tokens" and rows["moments"] == "48.0 MiB"
    assert compensated.cost.bytes - plain.cost.bytes == (6 * 4 + 3 * 8) * 1024**2
    assert compensated.seconds > plain.seconds
    depth = planned("prune", "prune.compensate=true", "prune.num_layers=6")
    assert any("prune.compensate=true changes nothing" in warning for warning in depth.warnings)
    assert any("ranked without it" in warning for warning in planned("search", "prune.compensate=true").warnings)


def test_what_pruning_writes_is_of_the_precision_that_it_runs_in():
    whole = {width: by_name()["prune"].planned(config(f"platform.precision={width}")).writes for width in ("bf16", "fp32")}
    assert whole["fp32"] == 2 * whole["bf16"]
    assert memory.checkpoint(SMOL.with_sizes(num_layers=19), 4, optimizer=False) == pytest.approx(392e6, rel=0.1)


@pytest.mark.parametrize("recipe", ["convert", "prune", "distill", "sft", "dpo"])
def test_a_plan_on_a_cpu_gives_a_time(recipe):
    made = by_name()[recipe].planned(config())
    assert made.seconds > pace.START
    assert any("estimated" in table.title and output.duration(made.seconds) in str(table.rows) for table in made.tables)
    longer = by_name()["distill"].planned(config("distill.max_steps=1200")).seconds - pace.START
    assert longer == pytest.approx(2 * (by_name()["distill"].planned(config()).seconds - pace.START))


def test_the_time_goes_by_what_this_cpu_multiplies(monkeypatch):
    native(monkeypatch, True)
    assert 1e9 < arithmetic.products() < 1e13

    def seconds(rate: float, precision: str) -> float:
        monkeypatch.setattr(arithmetic, "products", lambda: rate)
        return by_name()["distill"].planned(config(f"platform.precision={precision}")).seconds - pace.START

    slow = seconds(40e9, "fp32")
    assert slow == pytest.approx(2 * seconds(80e9, "fp32")) and slow > 2 * seconds(40e9, "bf16")


def test_a_plan_for_gpus_gives_no_time_of_this_cpu():
    made = by_name()["distill"].planned(compose(["+model=bielik11b"]))
    assert made.seconds is None and not any("this CPU" in table.title for table in made.tables)


def test_a_text_that_would_be_read_over_and_over_is_said_and_stored_once():
    made = cost_plan.plan(config("distill.max_steps=60000"))
    [warning] = [warning for warning in made.warnings if " times (" in warning]
    assert warning.startswith("train is read 3")
    [row] = [row for table in made.tables if table.title == "Disk" for row in table.rows if row[0].startswith("training text")]
    assert float(row[1].split()[0]) < 3 and row[1].endswith("MB")  # not the 492 MB that are read
    assert not [warning for warning in cost_plan.plan(config("distill.max_steps=100", "distill.validate_every=50")).warnings
                if " times (" in warning]  # fmt: skip


def test_tokens_are_counted_as_a_stage_counts_them(tmp_path):
    cfg = config()
    assert text_size.of(cfg, "assets/polish_text/heldout.jsonl.gz", text_size.COUNTED) == text_size.TextSize(45_843, True)
    estimated = text_size.of(cfg, "assets/polish_text/train.jsonl.gz")
    assert not estimated.whole and estimated.tokens > text_size.LOOKED_AT


@pytest.mark.parametrize("recipe", ["distill", "pretrain", "prune"])
def test_a_held_out_text_smaller_than_a_batch_is_refused_by_the_plan(tmp_path, recipe):
    (tmp_path / "short.txt").write_text("Ala ma kota. " * 20)
    sizes = ["prune.calibration.micro_batch_size=8", "prune.calibration.seq_length=256"]
    made = by_name()[recipe].planned(config("data.heldout=[short.txt]", *sizes))
    [said] = [missing.text for missing in made.missing if "too short" in missing.text]
    assert said.startswith("data.heldout is too short: short.txt has ") and "expected at least one global batch" in said
    if recipe != "prune":
        made = by_name()[recipe].planned(config("+data.heldout_more.en=short.txt"))
        assert any(missing.text.startswith("data.heldout_more.en is too short") for missing in made.missing)
    assert not [missing for missing in by_name()[recipe].planned(config()).missing if "short" in missing.text]


@pytest.mark.parametrize("recipe", ["sft", "dpo"])
def test_held_out_rows_fewer_than_a_batch_are_refused_by_the_plan(recipe):
    batch = f"{recipe}.global_batch_size=65536"
    made = by_name()[recipe].planned(config(batch))
    assert any(f"{recipe}.heldout holds" in missing.text and "a batch is 65,536" in missing.text for missing in made.missing)


def test_a_held_out_text_of_tokens_is_counted_too(tmp_path):
    import struct

    (tmp_path / "t.bin").write_bytes(bytes(2 * 100))
    (tmp_path / "t.idx").write_bytes(struct.pack("<9sQB", b"MMIDIDX\x00\x00", 1, 8) + bytes(40))
    with pytest.raises(UserError, match=r"data.heldout is too short: t has 100 tokens"):
        text_size.too_short(config(), "data.heldout", "t", 64, 4)
