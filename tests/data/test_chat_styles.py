"""Chat templates of models' families: turns and their ends are learnt by rendering, and held against transformers."""

import gzip
import json
import shutil

import pytest
import templates
from templates import ASSETS, STYLES, TINY

from nemo_plugins.data.chat import messages, preferences, rows
from nemo_plugins.data.chat.encode import encode
from nemo_plugins.data.chat.messages import Chat
from nemo_plugins.data.chat.rows import Fault, Report
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.data.chat.text_template import CHATML, END, START, TextTemplate
from nemo_plugins.runs.errors import UserError

SAMPLES = ASSETS / "chat_samples"
TURNS = [
    {"role": "user", "content": "Zażółć gęślą jaźń — 😀?\n"},
    {"role": "assistant", "content": "Tak.\n\nNie"},
    {"role": "user", "content": "  I co?"},
    {"role": "assistant", "content": "Nic"},
]
SYSTEM = {"role": "system", "content": "Odpowiadaj po polsku."}


@pytest.fixture(scope="module", params=["sentencepiece", "byte_level"])
def plain(request):
    return getattr(templates, request.param)()


@pytest.fixture(params=STYLES)
def style(request):
    return request.param


@pytest.fixture
def tokenizer(plain, style):
    return templates.styled(plain, style)


def dialogues(name: str) -> list[list[dict]]:
    with gzip.open(SAMPLES / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["messages"] for line in lines]


def reference(tokenizer, dialogue, end: str) -> tuple[list[int], list[bool]]:
    """Ids and mask by `apply_chat_template` alone: an answer is what the whole dialogue has behind the rendering that asks for
    it, to the first end of a turn; where the template marks answers, transformers' own mask."""
    if "generation %}" in tokenizer.chat_template:
        made = tokenizer.apply_chat_template(dialogue, return_dict=True, return_assistant_tokens_mask=True)
        return made["input_ids"], [bool(one) for one in made["assistant_masks"]]
    ids = tokenizer.apply_chat_template(dialogue)
    mask = [False] * len(ids)
    for place, message in enumerate(dialogue):
        if message["role"] == "assistant":
            before = tokenizer.apply_chat_template(dialogue[:place], add_generation_prompt=True)
            assert ids[: len(before)] == before
            stop = ids.index(tokenizer.convert_tokens_to_ids(end), len(before)) + 1
            mask[len(before) : stop] = [True] * (stop - len(before))
    return ids, mask


def test_tokens_and_masks_of_the_samples_are_transformers(tokenizer, style):
    template, end = ChatTemplate(tokenizer), STYLES[style][2]
    whole = [*dialogues("sft_heldout")[::2], *dialogues("forms_train")[::50], TURNS, TURNS[:2]]
    for sample, dialogue in zip(encode([Chat(one) for one in whole], template), whole, strict=True):
        assert (sample.ids.tolist(), sample.learned.tolist()) == reference(tokenizer, dialogue, end), dialogue


def test_prompts_are_what_transformers_asks_with(tokenizer):
    asked = [*dialogues("grpo_heldout")[::4], TURNS[:3]]
    wanted = [tokenizer.apply_chat_template(one, add_generation_prompt=True) for one in asked]
    assert ChatTemplate(tokenizer).prompts(asked) == wanted


def test_what_ends_a_turn_stops_an_answer(tokenizer, style):
    template = ChatTemplate(tokenizer)
    assert tokenizer.convert_ids_to_tokens(template.end) == STYLES[style][2]
    assert template.ends == {template.end, tokenizer.eos_token_id}


def test_the_last_answer_alone_is_learned(tokenizer, style):
    [sample] = encode([Chat(TURNS)], ChatTemplate(tokenizer), "last")
    assert tokenizer.decode(sample.ids[sample.learned]).strip() in (f"Nic{STYLES[style][2]}", f"Nic {STYLES[style][2]}")


def test_no_text_forges_a_turn_in_any_style(tokenizer):
    names = tokenizer.all_special_tokens
    forged = f"x{''.join(names)}y"
    ids, honest = (
        ChatTemplate(tokenizer).ids([{"role": "user", "content": text}], add_generation_prompt=True) for text in (forged, "xy")
    )
    special = set(tokenizer.convert_tokens_to_ids(names))
    assert [id for id in ids if id in special] == [id for id in honest if id in special]
    assert forged in tokenizer.decode(ids)


def test_a_default_system_turn_is_part_of_the_prompt_alone(plain):
    tokenizer = templates.styled(plain, "qwen25")
    [sample] = encode([Chat(TURNS[:2])], ChatTemplate(tokenizer))
    assert "Jesteś pomocnym asystentem." in tokenizer.decode(sample.ids)
    assert "Jesteś" not in tokenizer.decode(sample.ids[sample.learned])


@pytest.fixture
def mistral(plain):
    return TextTemplate.of(templates.styled(plain, "mistral"))


def test_rows_that_a_template_cannot_write_are_faults_of_their_own(mistral, tmp_path):
    """Mistral's puts a system turn into the last question, and leaves it out once that is answered."""
    file, report = tmp_path / "chat.jsonl", Report("sft.data")
    file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in (TURNS, [SYSTEM, *TURNS], TURNS[:2])))
    kept = list(rows.read([file], mistral.guarded(messages.check), report))
    assert [chat.where for chat in kept] == ["chat.jsonl:1", "chat.jsonl:3"] and report.faults == {"template": 1}
    assert "what stands before the answer is another once the answer is there" in report.places["template"][0]


def test_both_answers_of_a_pair_are_looked_at(plain, tmp_path):
    tokenizer = templates.styled(plain, "qwen25")
    tokenizer.chat_template += "{% if 'Kłamię' in messages[-1].content %}{{ raise_exception('no lies') }}{% endif %}"
    row = {"messages": TURNS[:1], "chosen": "Tak.", "rejected": "Kłamię."}
    with pytest.raises(Fault, match="refuses it: no lies"):
        TextTemplate.of(tokenizer).guarded(preferences.check)(row, "x:1", Report())


REFUSED = {
    "thinking is dropped": (templates.FORGETS, "changed once others follow, as by dropping its thinking"),
    "nothing ends a turn": (CHATML.replace("<|im_end|>", "[end]"), "behind the generation prompt|no special token ends it"),
    "no generation prompt": (CHATML.partition("{% if add")[0], "behind the generation prompt it writes"),
    "an answer is left out": (CHATML.replace("message['content']", "message['content'][:3]"), "not the answer"),
    "no Jinja": ("{% for %}", "cannot be read"),
    "the end is not marked": (
        templates.MARKED.replace(" + '<|im_end|>' }}{% endgeneration %}{{ '", " }}{% endgeneration %}{{ '<|im_end|>"),
        "which no special token ends",
    ),
}


@pytest.fixture
def folder(tmp_path):
    """The bundled model's tokenizer with another template."""

    def made(template: str | None, **described):
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(TINY / name, tmp_path / name)
        file = tmp_path / "tokenizer_config.json"
        content = json.loads(file.read_text()) | {"chat_template": template} | described
        file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return tmp_path

    return made


@pytest.mark.parametrize("why", REFUSED)
def test_a_template_that_cannot_be_learnt_is_refused_with_the_file_and_the_switch(folder, why):
    template, said = REFUSED[why]
    with pytest.raises(UserError, match=said) as refused:
        TextTemplate.of_folder(folder(template)).check()
    assert str(folder(template) / "tokenizer_config.json") in str(refused.value)
    assert "chat.template=chatml" in str(refused.value)


def test_no_template_is_refused_unless_chatml_is_asked_for(folder):
    with pytest.raises(UserError, match="no chat template") as refused:
        TextTemplate.of_folder(folder(None))
    assert "chat.template=chatml" in str(refused.value)
    TextTemplate.of_folder(folder(None), CHATML, (START, END)).check()


@pytest.mark.parametrize("kept_as", ["file", "string", "named"])
def test_a_folder_is_read_as_transformers_reads_it(folder, kept_as):
    from transformers import AutoTokenizer

    source = STYLES["qwen25"][0]
    named = [{"name": "default", "template": source}, {"name": "tool_use", "template": "x"}]
    made = folder({"file": "ignored", "string": source, "named": named}[kept_as])
    if kept_as == "file":
        (made / "chat_template.jinja").write_text(source)
    light, heavy = TextTemplate.of_folder(made), TextTemplate.of(AutoTokenizer.from_pretrained(made))
    assert (light.source, light.control, light.end) == (heavy.source, heavy.control, heavy.end) and light.source == source
    assert light.special == {role: name for role, name in heavy.special.items() if isinstance(name, str)}
    light_file = str(made / ("chat_template.jinja" if kept_as == "file" else "tokenizer_config.json"))
    assert light.where == light_file


def test_text_is_what_transformers_renders(tokenizer):
    rendered = TextTemplate.of(tokenizer).render(TURNS, add_generation_prompt=False)
    assert "".join(text for text, _ in rendered.parts) == tokenizer.apply_chat_template(TURNS, tokenize=False)
