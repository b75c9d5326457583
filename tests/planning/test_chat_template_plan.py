"""Which chat template an alignment writes with, seen before anything heavy is loaded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_plugins.planning import alignment_plan, chat_plan, distill_plan, grpo_plan
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "assets" / "tiny_pl"
OF_LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_start|>\n\n' + m.content | trim + '</s>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_start|>\n\n' }}{% endif %}"
)
FORGETS = OF_LLAMA.replace("m.content | trim", "(m.content if loop.last else m.content.split('</think>')[-1])")
NO_SYSTEM = OF_LLAMA.replace(
    "{% for m in messages %}", "{% for m in messages %}{{ raise_exception('no') if m.role == 'system' }}"
)


@pytest.fixture
def model(tmp_path):
    """The bundled model with another chat template, or none."""

    def made(template: str | None, special: bool = True) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(TINY, folder)
        (folder / "chat_template.jinja").unlink()
        described = json.loads((folder / "tokenizer_config.json").read_text())
        described.pop("chat_template")
        if not special:
            ours = {number: token for number, token in described["added_tokens_decoder"].items() if int(number) < 4094}
            described |= {"added_tokens_decoder": ours, "additional_special_tokens": []}
        (folder / "tokenizer_config.json").write_text(json.dumps(described))
        if template:
            (folder / "chat_template.jinja").write_text(template)
        return folder

    return made


def plan(which, folder: Path, *overrides: str):
    root = f"run.root={folder.parent / 'runs'}"
    return which(compose(["+model=tiny_pl", "experiment=laptop", f"model.path={folder}", root, *overrides]))


@pytest.mark.parametrize("which", [alignment_plan.sft, alignment_plan.dpo, grpo_plan.plan])
def test_another_familys_template_is_learnt(model, which):
    [table] = [table for table in plan(which, model(OF_LLAMA)).tables if table.title == "Dialogues"]
    assert ("end of a turn", "</s>") in table.rows


@pytest.mark.parametrize("which", [alignment_plan.sft, alignment_plan.dpo, grpo_plan.plan])
@pytest.mark.parametrize(("template", "says"), [(FORGETS, "dropping its thinking"), (None, "no chat template")])
def test_what_cannot_be_learnt_is_refused_with_the_file_and_the_switch(model, which, template, says):
    folder = model(template)
    with pytest.raises(UserError, match=says) as refused:
        plan(which, folder)
    assert "chat_template.jinja" in str(refused.value) and "chat.template=chatml" in str(refused.value)
    [table] = [table for table in plan(which, folder, "chat.template=chatml").tables if table.title == "Dialogues"]
    assert ("end of a turn", "<|im_end|>") in table.rows


def test_a_distillation_with_dialogues_refuses_it_likewise(model):
    folder, chats = model(FORGETS), "distill.chats=[assets/chat_samples/sft_train.jsonl.gz]"
    with pytest.raises(UserError, match="dropping its thinking"):
        plan(distill_plan.plan, folder, chats)
    assert plan(distill_plan.plan, folder).tables  # on text alone it does not matter


def test_chatml_says_what_it_adds_and_needs_rows_for_it(model):
    folder = model(OF_LLAMA.replace("<|im_start|>", "#"), special=False)
    with pytest.raises(UserError, match="leave 0 of the embedding's 4,096 rows"):
        plan(alignment_plan.sft, folder, "chat.template=chatml")
    made = plan(alignment_plan.sft, folder, "chat.template=chatml", "model.vocab_size=4160")
    assert any("adds <|im_start|> and <|im_end|> to the tokenizer" in warning for warning in made.warnings)


def test_data_of_which_the_template_can_write_nothing_is_refused(model, tmp_path):
    data = tmp_path / "chat.jsonl"
    turns = [{"role": role, "content": "Ile?"} for role in ("system", "user", "assistant")]
    data.write_text((json.dumps({"messages": turns}) + "\n") * 3)
    made = plan(alignment_plan.sft, model(NO_SYSTEM), f"sft.data=[{data}]")
    [missing] = [missing for missing in made.missing if missing.kind == "data"]
    assert "template 3" in missing.text and "the chat template refuses it: no" in missing.text


def test_a_dialogue_asks_for_no_more_than_a_template(model):
    folder = model(FORGETS)
    plan(chat_plan.plan, folder, f"chat.model={folder}")


def test_a_dialogue_without_a_template_or_with_turns_that_it_refuses_is_refused(model):
    folder = model(NO_SYSTEM)
    with pytest.raises(UserError, match="chat.system=''"):
        plan(chat_plan.plan, folder, f"chat.model={folder}")
    plan(chat_plan.plan, folder, f"chat.model={folder}", "chat.system=''")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        plan(chat_plan.plan, folder, f"chat.model={folder}")
    plan(chat_plan.plan, folder, f"chat.model={folder}", "chat.template=chatml")


@pytest.mark.long
def test_a_template_is_judged_without_torch(model):
    script = (
        "import sys\nfrom nemo_plugins.planning import alignment_plan\nfrom nemo_plugins.runs.prepare import compose\n"
        f"alignment_plan.sft(compose(['+model=tiny_pl', 'experiment=laptop', 'model.path={model(OF_LLAMA)}']))\n"
        "assert 'jinja2' in sys.modules and not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)
