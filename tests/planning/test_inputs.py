"""What a stage reads: a held-out text is not also trained on, and a teacher is what its folder says."""

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.planning import inputs
from nemo_plugins.planning.plan import Plan
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose

TINY = REPOSITORY / "assets" / "tiny_pl"


@pytest.mark.parametrize(
    ("trained", "heldout", "warned"),
    [
        (["a.jsonl"], ["b.jsonl"], []),
        (["a.jsonl", "b.jsonl"], ["b.jsonl"], ["b.jsonl"]),
        (["texts"], ["texts/more/c.txt"], ["texts/more/c.txt"]),
        (["texts/more"], ["texts"], ["texts"]),
        (["a.jsonl"], ["link.jsonl"], ["link.jsonl"]),
        (["tokens"], ["./tokens"], ["./tokens"]),
        ([], ["nothing.jsonl"], []),
    ],
)
def test_a_heldout_text_that_is_trained_on_is_warned_of(tmp_path, monkeypatch, trained, heldout, warned):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts" / "more").mkdir(parents=True)
    for name in ("a.jsonl", "b.jsonl", "texts/more/c.txt"):
        (tmp_path / name).write_text("a")
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    plan = Plan("")
    inputs.apart(plan, trained, heldout, "data.heldout")
    assert [text.split(" is trained on, too")[0] for text in plan.warnings] == [f"data.heldout: {one}" for one in warned]


def test_a_teacher_is_what_its_folder_says(plain_call):
    words = ("+model=from_hf", f"model.path={TINY}")
    there = compose([*words]).model
    assert (there.name, there.num_layers) == ("tiny_pl", 8)
    named = compose([*words, "model.name=mine", "model.num_layers=8"]).model
    assert (named.name, named.num_layers) == ("mine", 8)
    typed = (("num_layers", "99", "8"), ("rope_base", "20000.0", "10000.0"), ("tied_embeddings", "true", "False"))
    for key, value, has in typed:
        with pytest.raises(UserError, match=rf"(?i)model\.{key}={value}: .*config\.json has {has}"):
            compose([*words, f"model.{key}={value}"])
