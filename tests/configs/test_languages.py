"""A language is one file: the four that ship, and one invented from the documentation alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_plugins.alignment.rewards import multiple_choice
from nemo_plugins.configs import language
from nemo_plugins.configs.store import REPOSITORY, options
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose

FENCE = re.compile(r"```(yaml|python)\n(.*?)```", re.S)


@pytest.mark.parametrize("code", options("language"))
def test_what_ships_is_consistent(code):
    found = language.load(code)
    assert found.code == code and found.system_prompt
    assert len(found.stop_words) > 80 and len(set(found.stop_words)) == len(found.stop_words)
    assert {letter for word in found.stop_words for letter in word} <= set(found.alphabet)
    assert found.alphabet == found.alphabet.lower()
    for phrase in found.answer_phrases:
        assert re.compile(phrase.replace("{letter}", "([A-H])")).groups == 1
    words = multiple_choice.words_of(code)
    assert all(phrase.groups == 1 and "{letter}" not in phrase.pattern for phrase in (*words.phrases, *words.mentions))


def test_there_are_the_four_that_are_promised():
    assert {"pl", "cs", "hu", "sw"} <= set(options("language"))


def test_a_recipe_takes_a_language():
    assert compose(["+model=tiny_pl"]).language.code == "pl"
    assert compose(["+model=tiny_pl", "language=sw"]).language.decimal_separator == "."


def test_reading_one_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'datatrove', 'stdnum'}"
    code = f"import sys; from nemo_plugins.configs import language; language.load('pl'); print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True).stdout == "set()\n"


def test_an_unknown_one_and_a_wrong_file_are_refused(tmp_path):
    with pytest.raises(UserError, match=", ".join(options("language"))):
        language.load("tlh")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("code: xx\nname: X\nalphabet: x\nstop_words: [x]\nalphabeta: x\n")
    with pytest.raises(UserError, match="alphabeta"):
        language.load(wrong)
    wrong.write_text("code: xx\nname: X\nstop_words: [x]\n")
    with pytest.raises(UserError, match="alphabet missing"):
        language.load(wrong)


def test_an_invented_one_from_the_documentation_alone(tmp_path, monkeypatch):
    from nemo_plugins.data.personal.mask import mask

    blocks = dict(FENCE.findall(Path(REPOSITORY, "docs", "languages.md").read_text()))
    (tmp_path / "xx.yaml").write_text(blocks["yaml"])
    (tmp_path / "examplish.py").write_text(blocks["python"])
    monkeypatch.syspath_prepend(str(tmp_path))
    found = language.load(tmp_path / "xx.yaml")
    assert found.name == "Examplish" and found.stop_words[2] == "no"
    assert language.number_words(found)(407) == "kar zar set"
    text, counts = mask("Membro M123456 (ne M123457), forse jan@exemplo.xx.", found.identifiers)
    assert text == "Membro <MEMBER> (ne M123457), forse <EMAIL>." and counts == {"examplish:MEMBER": 1, "email": 1}
