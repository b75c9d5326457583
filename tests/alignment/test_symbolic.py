"""Formulas are compared in a process that the kernel bounds, and only where they have to be."""

import os
import signal

import pytest

from nemo_plugins.alignment import rewards
from nemo_plugins.alignment.rewards import symbolic


@pytest.mark.parametrize(
    "formula",
    [
        "9^{9^{9^{9}}}",  # one multiplication of C that Python's own timers cannot end
        r"10^{10^{10}}\cdot x",
        r"(x+y+1)^{9999999}",
        r"\prod_{n=1}^{10^{12}} n",
    ],
)
def test_a_formula_costs_no_more_than_its_bound_and_the_next_is_answered(formula):
    assert symbolic._ask(r"\sqrt{2}", formula, "") in (symbolic.OVER, symbolic.UNREADABLE)
    assert symbolic.equal(r"\sqrt{8}", r"2\sqrt{2}")


@pytest.mark.long
def test_a_worker_that_is_gone_is_another():
    symbolic._ask.cache_clear()
    assert symbolic.equal("x+1", "1+x")
    os.kill(symbolic._process[1].pid, signal.SIGKILL)
    symbolic._process[1].wait()
    assert symbolic.equal("x+2", "2+x")


def test_numbers_and_what_is_written_alike_ask_no_worker(monkeypatch):
    monkeypatch.setattr(symbolic, "_worker", None)
    monkeypatch.setattr(symbolic, "_ask", None)
    boxed = rewards.get("boxed_math")
    for reference, answer, earned in (
        ("42", "42", 1),
        ("1/2", "0,5", 1),
        ("5", "5 zł", 1),
        ("5", "x=5", 1),
        ("12 cm", "0,12 m", 1),
        ("1/3", "0.333333", 1),
        ("42", "17+25", 0),
        ("42", "czterdzieści dwa", 0),
        (r"\frac{\sqrt3}{2}", r"\frac{\sqrt3}{2}", 1),
        ("x^2+1", "x^2 + 1", 1),
    ):
        assert boxed("", rf"\boxed{{{answer}}}", reference) == earned
    assert boxed("", "", "[0,1]") == 0  # how a reference is tried when the data are read


@pytest.mark.parametrize("reference", [r"\frac{\sqrt3}{2}", "x^2+1", r"\pi", "[0,1]", "12 cm", "2; 3", "y=2x+1", "x>3"])
def test_references_of_a_maths_set_are_taken(reference):
    assert rewards.get("boxed_math")("", rf"\boxed{{{reference}}}", reference) == 1


@pytest.mark.parametrize("reference", ["dużo", "", "?", "__import__('os')", "zobacz rozwiązanie", "x" * 400])
def test_what_is_no_mathematics_is_refused(reference):
    with pytest.raises(ValueError, match="must be a number or a formula"):
        rewards.get("boxed_math")("", "", reference)
