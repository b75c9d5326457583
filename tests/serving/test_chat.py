"""Dialogues: the same tokens in every backend, a terminal that takes commands, a context that fills up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nemo_plugins.configs.schema import ChatSource
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.data.chat.text_template import TextTemplate
from nemo_plugins.platforms import gpus
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.serving import chat, chat_models
from nemo_plugins.serving.chat_models import DecodingOptions, LlamaCppChatModel
from nemo_plugins.serving.llama_cpp import LlamaCpp

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "assets" / "tiny_pl"
GREEDY = DecodingOptions(new_tokens=12, temperature=0.0, top_p=1.0)
DIALOGUE = [
    {"role": "system", "content": "Odpowiadasz krótko."},
    {"role": "user", "content": " Ile to jest 2 + 3? <|im_end|> 🙂\n"},
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "Jesteś pewien?"},
]


@pytest.fixture(scope="module")
def llama(tiny_gguf):
    return LlamaCppChatModel(tiny_gguf / "tiny_pl-Q8_0.gguf", None, 1)


def test_llama_cpp_reads_a_dialogue_as_training_wrote_it(llama):
    from transformers import AutoTokenizer

    template = ChatTemplate(AutoTokenizer.from_pretrained(TINY))
    assert llama.ids(DIALOGUE) == template.ids(DIALOGUE, add_generation_prompt=True)
    assert llama.room(DIALOGUE) == 256 - len(llama.ids(DIALOGUE))


def test_what_the_cache_holds_changes_no_answer(llama, tiny_gguf):
    model = LlamaCpp(tiny_gguf / "tiny_pl-Q8_0.gguf", context=256, exact=True)  # fp16 of a cache would differ in the last bit

    def answer(messages):
        return list(model.stream(llama.ids(messages), new_tokens=12))

    first, longer = answer(DIALOGUE[:2]), answer(DIALOGUE)
    assert longer == answer(DIALOGUE)  # all of it read before
    model.forget()
    assert longer == answer(DIALOGUE) and first == answer(DIALOGUE[:2])
    model.close()


def test_sampling_is_repeated_by_its_seed_alone(llama):
    drawn = [chat_models.text_of(llama.say(DIALOGUE[:2], DecodingOptions(12, 1.5, 1.0, seed))) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_oldest_turns_go_where_the_context_is_full(llama):
    long = [DIALOGUE[0]]
    for _ in range(8):
        long += [{"role": "user", "content": "słowo " * 20}, {"role": "assistant", "content": "tak"}]
    kept, gone = chat_models.fitting([*long, DIALOGUE[3]], llama, 16)
    assert gone and gone % 2 == 0 and kept[0] == DIALOGUE[0] and kept[-1] == DIALOGUE[3]
    assert llama.room(kept) >= 16
    with pytest.raises(UserError, match="longer than the context"):
        chat_models.fitting([{"role": "user", "content": "słowo " * 400}], llama, 16)


def talk(typed: str, *overrides: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "recipes" / "chat.py"), "+model=tiny_pl", "chat.new_tokens=12", *overrides]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, input=typed, capture_output=True, text=True, cwd=cwd, env=env, timeout=300)


def test_a_terminal_dialogue_with_both_models_side_by_side(tiny_gguf, tmp_path):
    typed = "Ile to jest 2 + 3?\n/regenerate\n/compare\n/system Mów krótko.\n/nonsense\n/exit\n"
    done = talk(typed, f"chat.model={tiny_gguf / 'tiny_pl-Q8_0.gguf'}", "chat.temperature=0", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.count("tokens/s") >= 3 and done.stdout.count("the first after") == 4
    columns = next(line for line in done.stdout.splitlines() if "tiny_pl-Q8_0.gguf" in line and "┃" in line)
    assert "tiny_pl" in columns.split("┃")[1]  # the teacher's folder stands beside the file
    assert "no command /nonsense" in done.stdout
    assert not list(tmp_path.iterdir())


def test_platform_cpu_keeps_a_chat_off_the_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(gpus, "DEV", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(chat, "lines", lambda: [])
    monkeypatch.setattr(chat, "Dialogue", lambda cfg: SimpleNamespace(chat_model=SimpleNamespace(name="anyone")))
    chat.run(compose(["+model=tiny_pl", "platform=cpu"]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("chat.model=nowhere.gguf",), "chat.model: nothing at nowhere.gguf"),
        (("chat.model=assets/tiny_pl/config.json",), "is no GGUF file"),
        ((), "aligned-export|convert-export"),
        (("chat.temperature=-1",), "chat.temperature=-1"),
    ],
)
def test_a_model_that_is_not_there_is_one_message(tmp_path, overrides, says):
    import re

    done = talk("", *overrides, cwd=tmp_path)
    assert done.returncode == 2 and re.search(says, done.stderr) and "Traceback" not in done.stderr


FORGETS = (  # what an answer thought goes once another question follows: no alignment takes it, a dialogue does
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_start|>\n' }}"
    "{{ m.content if loop.last else m.content.split('</think>')[-1] }}{{ '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_start|>\n' }}{% endif %}"
)


def test_a_dialogue_needs_nothing_of_a_template_but_that_it_renders(tmp_path):
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    (folder / "chat_template.jinja").write_text(FORGETS)
    (folder / "generation_config.json").unlink()
    chat_model = chat_models.open_chat_model(str(folder), None, 1, ChatSource.own)
    thought = [{"role": "user", "content": "Ile?"}, {"role": "assistant", "content": "<think>x</think>5"}, DIALOGUE[3]]
    wanted = AutoTokenizer.from_pretrained(folder).apply_chat_template(thought, add_generation_prompt=True)
    assert chat_model.ids(thought) == wanted and chat_model.ends == {2}
    assert len(list(chat_model.say(thought, GREEDY))) <= GREEDY.new_tokens
    chatml = chat_models.open_chat_model(str(folder), None, 1, ChatSource.chatml)
    assert chatml.ends == {2, 4095}


def test_llama_cpp_reads_a_template_of_any_style(tiny_gguf, llama):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = FORGETS
    llama_style = TextTemplate(FORGETS, llama.model.special_tokens(), llama.control, "x")
    before, llama.template = llama.template, llama_style
    try:
        dialogue = [{**turn, "content": turn["content"].replace("<|im_end|>", "")} for turn in DIALOGUE]
        assert llama.ids(dialogue) == tokenizer.apply_chat_template(dialogue, add_generation_prompt=True)
    finally:
        llama.template = before
    assert llama.ends == {4095} and llama.model.special_tokens()["eos_token"] == "</s>"
