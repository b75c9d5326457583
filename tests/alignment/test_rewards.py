"""Rewards on the table of completions.py, on whatever hypothesis thinks of, and when they fail."""

import json
import logging
import time
import tracemalloc
from fractions import Fraction

import pytest
from completions import ALL, MEGABYTE, WEATHER
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nemo_plugins.alignment import rewards
from nemo_plugins.alignment.rewards.boxed_math import last_box
from nemo_plugins.alignment.rewards.multiple_choice import chosen
from nemo_plugins.alignment.rewards.numerals import Style, parse
from nemo_plugins.alignment.rewards.scoring import Scorer, score
from nemo_plugins.alignment.rewards.tool_call import same
from nemo_plugins.runs import UserError

PROMPT = "Ile to jest?"
ROWS = [
    pytest.param(name, *row, *[PROMPT][len(row) - 3 :], id=f"{name}, {group}: {row[1][:40]!a}")
    for name, groups in ALL.items()
    for group, rows in groups.items()
    for row in rows
]
CHECKED = tuple(ALL)


def reference_answer(name, reference):
    return {"boxed_math": rf"\boxed{{{reference}}}", "tool_call": f"<tool_call>{reference}</tool_call>"}.get(name, reference)


@pytest.mark.parametrize(("name", "reference", "completion", "earned", "prompt"), ROWS)
def test_table(name, reference, completion, earned, prompt):
    reward = rewards.get(name)
    began = time.process_time()
    assert reward(prompt, completion, reference) == earned
    assert time.process_time() - began < 3
    assert reward("Ile to jest?", reference_answer(name, reference), reference) == 1.0


def test_the_table_is_large_and_has_both_ends():
    assert len(ROWS) >= 200
    for name in CHECKED:
        earned = [row[2] for rows in ALL[name].values() for row in rows]
        assert {0, 1} == set(earned)


@pytest.mark.parametrize("name", CHECKED)
def test_memory_is_bounded(name):
    """A megabyte of anything in the table costs at most tens of megabytes, here by Python's own count."""
    reward = rewards.get(name)
    long = [row for rows in ALL[name].values() for row in rows if len(row[1]) > 50_000]
    assert long
    reward("", "", long[0][0])
    for reference, completion, *_ in long[:2]:
        tracemalloc.start()
        reward("", completion, reference)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * MEGABYTE


BOX = r"\boxed{ \boxed { } \frac \% % , . / - − ( ) 0 1 2 10 e ^ \cdot \text \\ $ 999 42 1/2".split()
CHOICE = ["Odpowiedź: ", "poprawna odpowiedź to ", "lub ", "nie wiem ", r"\boxed{", "}"]
PIECES = {
    "boxed_math": [*BOX, " ", "\u00a0"],
    "multiple_choice": [*CHOICE, *"ABCDH b?().:,\n"],
    "tool_call": ["<tool_call>", "</tool_call>", WEATHER, *'{}[]",:1', "null", '"name"', '"arguments"', "1e999", "\\"],
}
REFERENCES = {"boxed_math": ["42", "1/2", "-0,5", "50%"], "multiple_choice": [*"ABH"], "tool_call": [WEATHER]}


@pytest.mark.parametrize("name", rewards.NAMES)
@settings(max_examples=150)
@given(st.data())
def test_no_completion_earns_more_than_the_reference_and_none_throws(name, data):
    kind = name if name in PIECES else name.removesuffix("_format") if name.startswith("tool") else "boxed_math"
    reference = data.draw(st.sampled_from(REFERENCES[kind]))
    completion = data.draw(st.lists(st.sampled_from(PIECES[kind]), max_size=25).map("".join) | st.text(max_size=200))
    reward = rewards.get(name)
    assert 0.0 <= reward("", completion, reference) <= reward("", reference_answer(kind, reference), reference) == 1.0


@settings(max_examples=300)
@given(st.integers(-(10**9), 10**9), st.integers(0, 6), st.sampled_from([" ", "\u00a0", "\u202f", r"\,", ""]), st.booleans())
@example(-1234567, 3, " ", True)
def test_every_spelling_of_a_number_is_that_number(digits, decimals, space, minus):
    value = Fraction(digits, 10**decimals)
    whole, rest = divmod(abs(digits), 10**decimals)
    text = f"{whole:,}".replace(",", space) + (f",{rest:0{decimals}d}" if decimals else "")
    text = (("−" if minus else "-") if digits < 0 else "") + text
    assert parse(text) == value
    assert parse(rf"\frac{{{value.numerator}}}{{{value.denominator}}}") == value
    assert parse(f"{value.numerator}/{value.denominator}") == value
    assert parse(text + r"\,\%") == value / 100


@settings(max_examples=200)
@given(st.text("0123456789.,/%-−() {}e\\frac", max_size=20))
@example("0\\ ")
@example("\\ -5")
def test_what_is_read_as_a_number_has_one_value(text):
    """Spaces at the ends and a group's braces change nothing; a sign turns it round, and a second one makes it no number."""
    value = parse(text)
    assert parse(f" {{{text}}} ") == value or len(text) > 15
    if value is not None and text.lstrip(" \\,")[0] not in "-−":  # "\\," and "\\ " are spaces, too
        assert parse("−" + text.lstrip()) == -value
        assert parse("--" + text.lstrip()) is None


def test_numbers_as_other_languages_write_them():
    swahili = rewards.get("boxed_math", language="sw")
    assert swahili("", r"\boxed{1,234.5}", "1234.5") == 1.0 and swahili("", r"\boxed{1,5}", "1.5") == 0.0
    assert parse("1.234.567,5", Style(",", (".",))) == Fraction(12345675, 10)


def test_the_last_box_by_brute_force():
    assert last_box(r"a \boxed{1} b \boxed{{2}{3}} c") == "{2}{3}"
    assert last_box(r"\boxed{a\}b} tail") == r"a\}b"
    assert last_box(r"}}\boxed{1}}}") == "1"
    assert last_box(r"\boxed{1} \boxed{2") is None
    assert last_box(r"\boxed{1 \boxed{2} 3}") == r"1 \boxed{2} 3"


NOUNS = {
    "a": ["odpowiedź", "opcja", "propozycja", "litera"],
    "y": ["wariant", "punkt", "podpunkt"],
    "ą": ["odpowiedzią", "opcją", "propozycją", "literą"],
    "ym": ["wariantem", "punktem", "podpunktem"],
}
FRAMES = [
    "{right} {noun} to {letter}",
    "{right} {noun} jest {letter}, ponieważ tak podano.",
    "{right} jest {noun} {letter}.",
    "Zatem {right} {noun}: {letter}",
    "Liczymy. {right} {noun} brzmi: {letter}",
    "{noun} {right}: {letter}",
]
WRAPPED = ["{}", "({})", "„{}”", '"{}"', "'{}'", "**{}**", "[{}]", "«{}»", "${}$", r"\text{{{}}}", "{})", "{}."]


@settings(max_examples=300)
@given(st.data())
def test_which_one_in_every_case_letter_and_quote(data):
    draw = data.draw
    ending = draw(st.sampled_from(list(NOUNS)))
    stem = draw(st.sampled_from(["poprawn", "prawidłow", "właściw", "trafn"]))
    letter = draw(st.sampled_from("ABCDabcd"))
    frame, noun, wrapped = (draw(st.sampled_from(x)) for x in (FRAMES, NOUNS[ending], WRAPPED))
    case = draw(st.sampled_from([str, str.capitalize, str.upper] if "text" not in wrapped else [str]))
    text, denied = (
        case(frame.format(right=x + ending, noun=noun, letter=wrapped.format(letter))) for x in (stem, "nie" + stem)
    )
    assert chosen(text) == letter.upper()
    assert chosen(f"<think>Odpowiedź: H</think>{text}") == chosen(text)
    for spoiled in (f"Być może {text}", f"{text}\nOdpowiedź: H", denied):
        assert chosen(spoiled) is None


@settings(max_examples=100)
@given(st.sampled_from("ABCD"), st.sampled_from("ABCD"))
def test_two_letters_are_no_choice(first, second):
    text = f"Odpowiedź: {first}. Poprawna odpowiedź to {second}."
    assert chosen(text) == (first if first == second else None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), JSON)
def test_a_call_is_itself_in_any_order_and_no_other(arguments, other):
    reward, text = rewards.get("tool_call"), json.dumps({"name": "f", "arguments": arguments})
    shuffled = json.dumps({"arguments": dict(reversed(arguments.items())), "name": "f"}, indent=1, ensure_ascii=False)
    assume_tags = "tool_call>" not in text
    assert reward("", f"<tool_call>{shuffled}</tool_call>", text) == 1.0 or not assume_tags
    for key in arguments:
        changed = json.dumps({"name": "f", "arguments": arguments | {key: other}})
        assert reward("", f"<tool_call>{changed}</tool_call>", text) == float(same(other, arguments[key]))


@pytest.mark.parametrize(
    ("completion", "low", "high"),
    [
        ("Stolicą Polski jest Warszawa, największe miasto nad Wisłą.", 1, 1),
        (r"Dodajemy liczby $17 + 25$, więc wynik to \boxed{42}.", 1, 1),
        ("12", 1, 1),
        (r"\boxed{42}", 1, 1),
        ("", 1, 1),
        ("The capital of Poland is Warsaw, the largest city on the Vistula.", 0, 0),
        ("Hlavním městem Polska je Varšava, největší město na Visle.", 0, 0),
        ("Ответ: двенадцать", 0, 0),
        ("波兰的首都是华沙，位于维斯瓦河畔。", 0, 0),
        ("Dodajemy obie liczby i dostajemy wynik. " * 8 + "And now we add the two numbers together. " * 8, 0.3, 0.7),
        ("```python\nprint('the quick brown fox jumps over the lazy dog')\n```\nTo jest program, który wypisuje zdanie.", 1, 1),
        ("Zażółć gęślą jaźń, proszę państwa. " * 30_000, 1, 1),
        ("x" * MEGABYTE, 0, 1),
        # what is marked as code or formula hides no prose
        ("```\nThe capital of Poland is Warsaw, the largest city on the Vistula.\n```", 0, 0),
        ("```\nThe capital of Poland is Warsaw, the largest city on the Vistula.", 0, 0),
        ("<tool_call>\nThe capital of Poland is Warsaw, the largest city on the Vistula.", 0, 0),
        ("`The capital of Poland is Warsaw, the largest city on the Vistula.`", 0, 0),
        ("`The capital of Poland` `is Warsaw, the largest` `city on the Vistula.`", 0, 0),
        ("$The capital of Poland is Warsaw, the largest city on the Vistula.$", 0, 0),
        ("```\nStolicą Polski jest Warszawa, największe miasto nad Wisłą.\n```", 1, 1),
        ("```\nStolicą Polski jest Warszawa, największe miasto nad Wisłą.", 1, 1),
        (r"$\frac{1}{2} \cdot \text{masa} \cdot v^2$", 1, 1),
        ("```python\nprint(17 + 25)\n```", 1, 1),
        (f"<tool_call>{WEATHER}</tool_call>", 1, 1),
        (f"<tool_call>{WEATHER}</tool_call>\nSprawdzam pogodę w Łodzi na trzy dni.", 1, 1),
        # without bounds
        ("`" * MEGABYTE, 1, 1),
        ("``` " * (MEGABYTE // 4 - 1), 1, 1),
        ("$" * MEGABYTE, 1, 1),
        ("\\a" * (MEGABYTE // 2), 1, 1),
        ("<tool_call>" * (MEGABYTE // 11), 1, 1),
        ("`a" * (MEGABYTE // 2) + "```", 0, 1),
        ("a" + "\u0301\u0316" * (MEGABYTE // 2), 0, 1),
    ],
)
def test_language(completion, low, high):
    began = time.process_time()
    assert low <= rewards.get("polish_language")("", completion, "") <= high
    assert time.process_time() - began < 3


def test_format_and_length():
    boxed, call, length = (rewards.get(name) for name in ("boxed_format", "tool_call_format", "length"))
    assert [boxed("", x, "7") for x in (r"\boxed{5}", r"\boxed{pięć}", "5")] == [1, 0, 0]
    assert [call("", x, "") for x in (f"<tool_call>{WEATHER}</tool_call>", "<tool_call>{}</tool_call>", WEATHER)] == [1, 0, 0]
    assert [rewards.get("length", limit=10)("", "x" * n, "") for n in (0, 10, 15, 20, 99)] == [1, 1, 0.5, 0, 0]
    assert length("", "x" * 2000, "") == 1


@pytest.mark.parametrize(("name", "reference"), [("boxed_math", "dużo"), ("multiple_choice", "AB"), ("tool_call", "{}")])
def test_a_reference_that_is_none_is_named(name, reference):
    with pytest.raises(ValueError, match=f"the reference of {name} must be"):
        rewards.get(name)("", "", reference)


def test_a_users_own_reward_and_its_mistakes(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "def shout(prompt, completion, reference, *, loud=1):\n    return loud * completion.isupper()\nNUMBER = 1\n"
    )
    assert rewards.get(f"{file}:shout", loud=3)("", "TAK", "") == 3
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    for name, options, message in (
        ("boxed_maths", {}, "expected one of boxed_format, boxed_math, length"),
        (f"{tmp_path}/none.py:shout", {}, "is not there"),
        (f"{file}:whisper", {}, "no function 'whisper'"),
        (f"{file}:NUMBER", {}, "no function 'NUMBER'"),
        (f"{tmp_path}/broken.py:f", {}, "ModuleNotFoundError"),
        (f"{file}:shout", {"laud": 1}, "unexpected keyword argument 'laud'"),
        ("length", {"limits": 3}, "limits"),
    ):
        with pytest.raises(UserError, match=message):
            rewards.get(name, **options)


def test_a_mix_is_weighted_by_kind_of_prompt():
    mix = {"boxed_math": {"boxed_math": 1.0, "length": 0.5}, "multiple_choice": {"multiple_choice": 2.0}}
    scorer = Scorer(mix, {"length": {"limit": 20}})
    scores = scorer.score(
        "pqr", [r"\boxed{42}", "x" * 30, "Odpowiedź: B"], ["42", "42", "B"], ["boxed_math"] * 2 + ["multiple_choice"]
    )
    assert scores.totals == [1.5, 0.25, 2.0]
    assert scores.by_reward == {"boxed_math": [1, 0], "length": [1, 0.5], "multiple_choice": [1]}
    assert not scorer.failures


def test_what_throws_earns_0_and_is_counted(tmp_path, caplog):
    file = tmp_path / "bad.py"
    file.write_text(
        "def throws(p, c, r):\n    return 1 / int(c)\n"
        "def recurses(p, c, r):\n    return recurses(p, c, r)\n"
        "def none(p, c, r):\n    return None\n"
        "def nan(p, c, r):\n    return float('nan')\n"
    )
    mix = {"k": {"length": 1.0, **{f"{file}:{name}": 1.0 for name in ("throws", "recurses", "none", "nan")}}}
    with caplog.at_level(logging.WARNING):
        scores, failures = score(mix, ["", ""], ["0", "2"], ["", ""], ["k", "k"])
    assert scores.totals == [1.0, 1.5]
    errors = {"throws: ZeroDivisionError": 1, "recurses: RecursionError": 2, "none: TypeError": 2, "nan: TypeError": 2}
    assert failures == {f"{file}:{what}": count for what, count in errors.items()}
    assert len(caplog.records) == 4
    scores, failures = score({"boxed_math": {"boxed_math": 1}}, [""], [r"\boxed{1}"], ["jeden"], ["boxed_math"])
    assert scores.totals == [0] and failures == {"boxed_math: ValueError": 1}


@pytest.mark.parametrize(
    ("mix", "options", "message"),
    [
        ({}, {}, "expected a reward and its weight"),
        ({"boxed_math": {}}, {}, "expected a reward and its weight"),
        ({"boxed_math": {"boxed_math": float("nan")}}, {}, r"rewards\.boxed_math\.boxed_math: expected a number"),
        ({"boxed_math": {"boxed_math": "1"}}, {}, "expected a number as weight, got '1'"),
        ({"boxed_math": {"boxed_mth": 1}}, {}, "boxed_mth"),
        ({"boxed_math": {"boxed_math": 1}}, {"length": {"limit": 1}}, "no such reward in the mix"),
    ],
)
def test_a_wrong_mix_is_refused(mix, options, message):
    with pytest.raises(UserError, match=message):
        Scorer(mix, options)


def test_a_kind_without_rewards_is_refused():
    with pytest.raises(UserError, match="prompts of kind poem: rewards are set for boxed_math only"):
        score({"boxed_math": {"boxed_math": 1}}, [""], [""], [""], ["poem"])
