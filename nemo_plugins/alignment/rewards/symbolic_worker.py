"""The process that compares formulas: a line of JSON on stdin for each question, a digit of an answer on stdout.

Run by `symbolic.py` as a script: it imports math-verify once and forks for every question, so that no question can outlive its
limits, leave memory behind, or reach the next. The kernel ends a child that is over its limits, also one in the midst of a
multiplication of C; its exit status is the answer, and nothing of what it writes is read.
"""

import json
import os
import resource
import signal
import sys

DIFFERENT, EQUAL, UNREADABLE, OVER = range(4)


def main() -> None:
    # Sympy's own modules that a question might need are imported here, once.
    import math_verify
    import sympy

    sympy.simplify(sympy.sqrt(2) * sympy.Symbol("x", real=True) - 1)
    math_verify.parse(r"$\frac{1}{2}$", parsing_timeout=None)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_answer(json.loads(line)))
        status = os.waitpid(child, 0)[1]
        print(OVER if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


def _answer(question: dict) -> int:
    for timer, seconds in ((signal.ITIMER_PROF, question["seconds"]), (signal.ITIMER_REAL, 5 * question["seconds"])):
        signal.setitimer(timer, seconds)  # nobody handles the signals: they end the process
    resource.setrlimit(resource.RLIMIT_CPU, (int(question["seconds"]) + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_AS, (question["bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    try:
        return _compare(question)
    except MemoryError:
        return OVER
    except Exception:  # whatever sympy thinks of a formula that a model has written
        return UNREADABLE


def _compare(question: dict) -> int:
    import math_verify
    import sympy

    reference, answer = (_expression(question[name]) for name in ("reference", "answer"))
    if reference is None or answer is None:
        return UNREADABLE
    if question["within"]:  # of a decimal: the other one must be that close
        apart = abs(sympy.N(reference - answer, 40))
        return EQUAL if apart.is_number and apart < sympy.Rational(question["within"]) else DIFFERENT
    return EQUAL if math_verify.verify(reference, answer, timeout_seconds=None, strict=True) else DIFFERENT


def _expression(latex: str):
    """What a formula is to sympy; None where it is nothing. Only LaTeX's own parser: the one for plain text ends in eval."""
    import math_verify
    from latex2sympy2_extended import NormalizationConfig

    clean = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    config = math_verify.LatexExtractionConfig(boxed_match_priority=-1, normalization_config=clean)
    expressions = math_verify.parse(f"${latex}$", [config], fallback_mode="no_fallback", parsing_timeout=None)
    return expressions[0] if expressions else None


if __name__ == "__main__":
    main()
