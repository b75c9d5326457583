"""What the chain's report says, from numbers that are known."""

import json

import pytest

from nemo_plugins.reporting import chain, heldout_losses, plots

VALUES = {
    "teacher": 2.0,
    "pruned": 4.0,
    "distilled": 2.5,
    "pruned at random": 5.0,
    "pruned at random, distilled": 2.4,
    "without its last layers": 4.5,
    "without its last layers, distilled": 2.7,
    "from scratch, same tokens": 3.0,
}


def test_recovery_is_the_share_of_the_gap():
    assert chain.recovered(VALUES) == pytest.approx(0.75)
    assert chain.recovered({"teacher": 2.0, "pruned": 1.9, "distilled": 1.8}) is None
    assert chain.recovered({"teacher": 2.0}) is None


def test_a_claim_that_does_not_hold_is_said_so():
    held = {claim.text: claim.holds for claim in chain.claims(VALUES)}
    assert held.pop("importance beats chance, both distilled as long") is False
    assert len(held) == 4 and all(held.values())


def test_write_prints_every_model_and_draws(tmp_path, capsys):
    places = [(name, *place) for name, (*places, _) in heldout_losses.MODELS.items() for place in places if place]
    for name, stage, metric in places:
        folder = tmp_path / stage
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "summary.json"
        summary = json.loads(file.read_text()) if file.exists() else {"metrics": {}}
        summary["metrics"][metric] = VALUES[name]
        summary |= {key: {"parameters": 7} for key in ("teacher", "student", "model")}
        file.write_text(json.dumps(summary))
    chain.write(tmp_path)
    said = capsys.readouterr().out
    assert all(name in said for name in VALUES) and "75.0%" in said and "NO   importance" in said
    assert json.loads((tmp_path / "report.json").read_text())["heldout_loss"] == VALUES
    assert (tmp_path / "plots" / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_losses_that_are_compared_are_of_the_same_windows():
    pruning = {"prune": {"metrics": {"loss_before": 3.0, "loss_after": 5.0}}}
    assert heldout_losses.losses(pruning) == {"teacher": 3.0, "pruned": 5.0}
    alone = {**pruning, "distill": {"metrics": {"val_loss": 4.0, "val_loss_first": 5.5}}}  # the teacher was not measured there
    assert heldout_losses.losses(alone) == {"teacher": 3.0, "pruned": 5.0, "distilled": 4.0}
    alone["distill"]["metrics"]["teacher_val_loss"] = 3.5
    assert heldout_losses.losses(alone) == {"teacher": 3.5, "pruned": 5.5, "distilled": 4.0}


def test_layers_marks_kept_and_dropped(tmp_path):
    assert plots.layers(tmp_path / "layers.png", [0.5, 0.1, 0.3], [0, 2], "importance").stat().st_size > 5000
