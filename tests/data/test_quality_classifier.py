"""The classifier: what it is trained on, that its probabilities are probabilities, and what the shipped one keeps."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import corpora
import numpy as np
import pytest

from nemo_plugins.configs import language
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.quality import examples, training
from nemo_plugins.data.quality.classifier import CLASSES, Classifier
from nemo_plugins.data.quality.features import Extractor
from nemo_plugins.runs.errors import UserError

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

SHIPPED = Path(REPOSITORY, "assets", "quality_pl")
POLISH = language.load("pl")


@pytest.fixture(scope="module")
def heldout():
    with gzip.open(corpora.TEXT / "heldout.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="module")
def material(heldout):
    return examples.Material(POLISH, heldout, [], [language.load(code) for code in ("cs", "hu", "sw")])


@pytest.fixture(scope="module")
def shipped():
    return Classifier.load(SHIPPED, POLISH)


def test_examples_are_the_same_everywhere_and_of_every_kind(material):
    numbers = range(len(material.good))
    made = examples.make(material, numbers, 3)
    assert made == examples.make(material, numbers, 3) != examples.make(material, numbers, 4)
    assert {one.kind for one in made} == {"whole", "passage", *examples.LOW, *examples.MEDIUM}
    assert all(one.label == 2 for one in made if one.kind == "whole")
    sides = training.split(material.good, 1)
    assert sorted(number for side in sides.values() for number in side) == list(numbers)


def test_the_shipped_one_keeps_good_text_and_drops_what_is_made_bad(material, shipped):
    measured = training.measure(shipped, examples.make(material, range(len(material.good)), 99), 0.9)
    assert measured.precision > 0.97 and measured.recall > 0.9
    assert all(kept <= 0.1 for name, (_, kept) in measured.kinds.items() if not name.startswith("HIGH")), measured.kinds
    assert measured.calibration_error < 0.05


def test_probabilities_are_the_same_alone_and_together(shipped, heldout):
    together = shipped.probabilities(heldout[:40])
    assert together.shape == (40, len(CLASSES)) and np.allclose(together.sum(axis=1), 1)
    np.testing.assert_allclose(np.concatenate([shipped.probabilities([text]) for text in heldout[:40]]), together, atol=1e-12)
    assert shipped.probabilities([]).shape == (0, 3)


def test_calibration_brings_probabilities_to_what_happens():
    """On margins that are three times too sure, against a softmax as it is."""
    rng = np.random.default_rng(5)
    chances = rng.uniform(0, 1, 4000)
    true = rng.uniform(0, 1, 4000) < chances
    assert training.calibration_error(chances, true) < 0.03
    sure = 1 / (1 + np.exp(-3 * np.log(chances / (1 - chances))))
    assert training.calibration_error(sure, true) > 0.1
    assert sum(count for _, _, count in training.reliability(chances, true)) == 4000
    assert training.reliability(np.array([0.05, 0.95, 1.0]), np.array([False, True, True])) == [(0.05, 0.0, 1), (0.975, 1.0, 2)]


def test_train_evaluate_and_apply_by_the_command_line(tmp_path, heldout):
    (tmp_path / "good.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in heldout[:90]))
    (tmp_path / "other.jsonl").write_text("".join(json.dumps({"text": text, "source": "help"}) + "\n" for text in heldout[90:]))

    def command(*arguments):
        recipe = [sys.executable, str(REPOSITORY / "recipes" / "data.py"), "+model=tiny_pl", *arguments]
        done = subprocess.run(recipe, cwd=tmp_path, env=corpora.environment(), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    train = command("corpus.task=train_quality", "corpus.quality.good=[good.jsonl]", "corpus.quality.rounds=20")
    model = "corpus.quality.model=runs/tiny_pl/train-quality/model"
    assert model in train.stdout.replace("\n", "").replace("│", "").replace(" ", "").replace(
        "corpus.quality.model", " corpus.quality.model"
    )
    folder = tmp_path / "runs" / "tiny_pl"
    assert {file.name for file in (folder / "train-quality" / "model").iterdir()} == {"model.ubj", "classifier.json"}
    command("corpus.task=evaluate_quality", model, "corpus.quality.heldout=[other.jsonl]")
    summary = json.loads((folder / "evaluate-quality" / "summary.json").read_text())
    assert summary["metrics"]["precision"] > 0.8 and summary["sources"]["help"][0] == len(heldout) - 90
    assert (folder / "evaluate-quality" / "plots" / "reliability.png").is_file()
    command("corpus.task=apply_quality", model, "corpus.sources=[other.jsonl]")
    applied = json.loads((folder / "apply-quality" / "summary.json").read_text())
    assert applied["metrics"]["documents"] == len(heldout) - 90


def test_a_classifier_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="is of pl, the text is cs"):
        Classifier.load(SHIPPED, language.load("cs"))
    with pytest.raises(UserError, match="no quality classifier in"):
        Classifier.load(tmp_path, POLISH)
    shutil.copytree(SHIPPED, tmp_path / "old")
    about = json.loads((tmp_path / "old" / "classifier.json").read_text())
    (tmp_path / "old" / "classifier.json").write_text(json.dumps(about | {"features": about["features"][1:]}))
    with pytest.raises(UserError, match="other features"):
        Classifier.load(tmp_path / "old", POLISH)


def test_trees_stop_and_a_saved_one_says_the_same(tmp_path, material):
    sides = training.split(material.good, 2)
    made = {side: examples.make(material, numbers, place) for place, (side, numbers) in enumerate(sides.items())}
    about = {"language": "pl", "good": {"documents": len(material.good)}}
    classifier = training.train(made, Extractor(POLISH), about, rounds=15, depth=3, seed=1)
    classifier.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model", POLISH)
    np.testing.assert_allclose(again.probabilities(material.good[:20]), classifier.probabilities(material.good[:20]), atol=1e-5)
