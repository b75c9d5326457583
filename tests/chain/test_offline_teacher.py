"""A teacher that is recorded once serves a distillation from files with the very losses of one that runs beside it."""

import json
import shutil

import pytest
from laptop import ok
from safetensors import safe_open

from nemo_plugins.distillation.record_rows import SampledRows

pytestmark = pytest.mark.nemo

LOSS = ("distill.loss.kind=jsd", "distill.loss.temperature=2", "distill.loss.top_k=20", "distill.loss.alpha=0.7")
WATCHED = ("loss", "kd_loss", "ce", "agreement", "grad_norm", "val_loss")


@pytest.fixture(scope="module")
def recorded(laptop):
    """The run folder of a recording by two processes."""
    ok(laptop.recipe("distill", "teacher.mode=record", *LOSS, "platform.devices=2"))
    return laptop.run / "teacher-record"


@pytest.fixture(scope="module")
def cached(laptop, recorded):
    ok(laptop.recipe("distill", "teacher.mode=cached", *LOSS, "run.name=tiny_pl-laptop/cached"))
    return laptop.run / "cached" / "distill"


def test_losses_are_those_of_the_live_teacher(laptop, cached):
    ok(laptop.recipe("distill", *LOSS, "run.name=tiny_pl-laptop/beside"))
    for key in WATCHED:
        values = laptop.losses("cached/distill", key)
        assert values and values == pytest.approx(laptop.losses("beside/distill", key), rel=1e-6), key


def test_the_files_take_what_the_plan_says(laptop, recorded):
    summary = json.loads((recorded / "summary.json").read_text())
    sizes = 0
    for file in sorted((recorded / "record").glob("shard-*.safetensors")):
        with safe_open(file, framework="pt") as shard:
            sizes += sum(shard.get_tensor(name).nbytes for name in ("indices", "logprobs", "tail"))
    assert sizes == summary["metrics"]["bytes_per_token"] * summary["data"]["tokens"] == (20 * 6 + 4) * 6 * 8 * 64


def test_draws_estimate_the_loss_of_the_live_teacher(laptop):
    """The chain's own distillation has the whole teacher beside the student: the first step is of the same student."""
    name, draws = "run.name=tiny_pl-laptop/drawn", "distill.loss.draws=32"
    ok(laptop.recipe("distill", "teacher.mode=record", draws, name))
    recording = laptop.summary("drawn/teacher-record")
    files = laptop.run.glob("drawn/teacher-record/record/shard-*.safetensors")
    each = recording["metrics"]["bytes_per_token"]
    assert each * recording["data"]["tokens"] == sum(file.stat().st_size for file in files)
    assert each < SampledRows(32, 4096).bytes_per_token() / 2  # a trained teacher draws the same tokens again and again
    ok(laptop.recipe("distill", "teacher.mode=cached", draws, name))
    drawn, live = (lambda key: laptop.losses("drawn/distill", key)), laptop.losses
    assert drawn("agreement")[0] == pytest.approx(live("distill", "agreement")[0], abs=1e-6)
    assert drawn("val_loss")[0] == pytest.approx(live("distill", "val_loss")[0], rel=1e-6)
    assert drawn("kd_loss")[0] != live("distill", "kd_loss")[0]
    for key, close in (("kd_loss", 0.15), ("val_loss", 0.01)):
        assert drawn(key) == pytest.approx(live("distill", key), rel=close), key


def test_recording_goes_on_where_it_was(laptop, recorded, tmp_path):
    """Without its summary and one file, as a kill leaves it: the same bytes come back, by one process."""
    for path in (laptop.run / "convert-import", recorded):
        shutil.copytree(path, tmp_path / "tiny_pl-laptop" / path.name)
    folder = tmp_path / "tiny_pl-laptop" / recorded.name
    (folder / "summary.json").unlink()
    lost = folder / "record" / "shard-00000000.safetensors"
    before = lost.read_bytes()
    lost.unlink()
    again = laptop.recipe("distill", "teacher.mode=record", *LOSS, f"run.root={tmp_path}")
    assert again.returncode == 0, again.stderr[-3000:]
    assert lost.read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("distill.loss.top_k=21",), "top_k: 20 there, 21 asked for"),
        (("distill.loss.temperature=1",), "temperature: 2.0 there, 1.0 asked for"),
        (("run.seed=1",), "seed: 1234 there, 1 asked for"),
        (("distill.max_steps=9",), "samples: 48 there, 72 asked for"),
        (("distill.loss.top_k=null",), "distill.loss.top_k is null"),
        (
            ("distill.loss.top_k=null", "distill.loss.draws=20", "distill.loss.kind=forward_kl"),
            "draws: None there, 20 asked for",
        ),
        (("teacher.record=nowhere",), "teacher.record: no folder nowhere"),
    ],
)
def test_another_recording_is_refused_at_once(laptop, recorded, overrides, key):
    refused = laptop.recipe("distill", "teacher.mode=cached", *LOSS, *overrides, "run.name=tiny_pl-laptop/refused")
    assert refused.returncode == 2 and key in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (laptop.run / "refused").exists()


def test_another_text_is_refused(laptop, recorded, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("To jest zupełnie inny tekst niż ten, który czytał nauczyciel.\n" * 500)
    name = "run.name=tiny_pl-laptop/other-text"
    refused = laptop.recipe("distill", "teacher.mode=cached", *LOSS, f"distill.data=[{other}]", name)
    assert refused.returncode == 2 and "text: " in refused.stderr and "(data.train)" in refused.stderr, refused.stderr[-2000:]
