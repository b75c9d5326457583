"""What an on-policy distillation refuses before anything heavy is loaded, and what it says that it takes."""

import json
import shutil
import subprocess
import sys

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.planning import opd_plan
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose

ASK = [{"role": "user", "content": "2 + 2?"}]


def plan(*overrides: str):
    return opd_plan.plan(compose(["+model=tiny_pl", "experiment=laptop", *overrides]))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("opd.share=1.5", "opd.share=1.5: expected from 0"),
        ("opd.share=-0.1", "opd.share=-0.1: expected from 0"),
        ("opd.max_tokens=192", "prompt and completion together have opd.seq_length=192"),
        ("opd.max_tokens=0", "opd.max_tokens=0"),
        ("opd.loss.temperature=0", "opd.loss.temperature=0"),
        ("opd.loss.top_k=5000", "opd.loss.top_k=5000"),
        ("opd.loss.alpha=0.5", "opd.loss.alpha=0.5: cross-entropy"),
        ("opd.loss.draws=8", "opd.loss.draws=8"),
        ("teacher.mode=cached", "teacher.mode=cached"),
        ("platform.pipeline_parallel=2", "pipeline_parallel=2"),
        ("platform.context_parallel=2", "context_parallel=2"),
    ],
)
def test_a_mistake_is_named(override, says):
    with pytest.raises(UserError) as refused:
        plan(override)
    assert says in str(refused.value)


def test_the_command_line_refuses_an_unknown_loss_without_torch():
    words = ["+model=tiny_pl", "experiment=laptop", "opd.loss.kind=hellinger", "dry_run=true"]
    done = subprocess.run([sys.executable, str(REPOSITORY / "recipes" / "opd.py"), *words], capture_output=True, text=True)
    assert done.returncode == 2 and "reverse_kl" in done.stderr and "Traceback" not in done.stderr


def test_a_teacher_that_is_not_there_is_said_in_the_plan(tmp_path):
    made = plan(f"teacher.path={tmp_path / 'none'}")
    assert any("teacher.path" in missing.text for missing in made.missing)


def test_a_teacher_of_other_tokens_is_said_in_the_plan(tmp_path):
    """A student of a run whose tokenizer was changed, and the bundled teacher."""
    tokens = REPOSITORY / "assets" / "tiny_pl" / "tokenizer.json"
    described = [tmp_path / name / "checkpoint" / "context" / "nemo_tokenizer" for name in ("student", "teacher")]
    for folder in described:
        folder.mkdir(parents=True)
        shutil.copytree(tokens.parent, folder, dirs_exist_ok=True)
        (folder.parents[1] / "weights").mkdir()
    given = [f"{name}.path={tmp_path / name / 'checkpoint'}" for name in ("student", "teacher")]
    assert not [one for one in plan(*given).missing if "other tokens" in one.text]
    changed = json.loads(tokens.read_text())
    vocabulary = changed["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary[-1][0] += "x"
    else:
        vocabulary[f"{max(vocabulary, key=vocabulary.get)}x"] = vocabulary.pop(max(vocabulary, key=vocabulary.get))
    (described[0] / "tokenizer.json").write_text(json.dumps(changed))
    assert any("teacher and student have other tokens" in one.text for one in plan(*given).missing)


def test_answers_to_learn_from_are_asked_for_below_a_share_of_one(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"messages": ASK}) + "\n")
    assert not [one for one in plan(f"opd.data=[{file}]").missing if one.kind == "data"]
    made = plan(f"opd.data=[{file}]", "opd.share=0.5")
    assert any("no_answer" in one.text and "opd.share is below 1" in one.text for one in made.missing)


def test_the_teacher_is_in_memory_also_while_completions_are_drawn():
    made = opd_plan.plan(compose(["+model=bielik11b", "experiment=minitron_7b", "platform=gpu", "platform.devices=8"]))
    tables = [table for table in made.tables if table.title.startswith("Memory of one GPU")]
    assert len(tables) == 2 and all("teacher" in dict(table.rows) for table in tables)
