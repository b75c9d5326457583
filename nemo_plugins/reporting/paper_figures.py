"""The paper's own figures, quoted, and its mean recovery reckoned again from its rows."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from nemo_plugins.configs.store import CONF

FILE = CONF / "paper" / "bielik_minitron.yaml"


@dataclass(frozen=True)
class Recomputed:
    """Mean recovery of the paper's rows, in percent.

    Attributes:
        rows: benchmark, student, teacher, student / teacher.
        mean: of the ratios, every benchmark alike.
        others: further ways to one number, by name.
        printed: what the paper prints.
        half_digit: by how much rounding of the rows can move the mean.
    """

    rows: list[tuple[str, float, float, float]]
    mean: float
    others: dict[str, float]
    printed: float
    half_digit: float

    @property
    def explained(self) -> list[str]:
        """The ways that come to what the paper prints, as it prints it."""
        ways = {"the mean of the ratios": self.mean, **self.others}
        return [name for name, value in ways.items() if abs(value - self.printed) <= 0.05 + 1e-9]

    def words(self) -> str:
        """What came out beside what is printed."""
        said = f"The mean of the rows' student / teacher is {self.mean:.2f} %; the paper prints {self.printed:.1f} %."
        if "the mean of the ratios" in self.explained:
            return f"{said} They agree."
        others = ", ".join(f"{name} {value:.2f} %" for name, value in self.others.items())
        rounding = f"Rounding of the rows can move the mean by at most {self.half_digit:.2f} points."
        if self.explained:
            return f"{said} It is {' or '.join(self.explained)} that comes to it. Tried: {others}. {rounding}"
        return f"{said} Other ways do not come to it either ({others}). {rounding} The difference is left standing as open."


def load() -> dict[str, Any]:
    """The figures as the file has them."""
    import yaml

    return yaml.safe_load(FILE.read_text())


def recompute(paper: dict[str, Any] | None = None) -> Recomputed:
    """The mean recovery from the rows, in percent."""
    paper = paper or load()
    rows = [(row["benchmark"], row["student"], row["teacher"], row["student"] / row["teacher"]) for row in paper["final"]]
    ratios = [ratio for *_, ratio in rows]
    student, teacher = (sum(row[key] for row in paper["final"]) for key in ("student", "teacher"))
    english = {row["model"]: row["english"] for row in paper["stages"]}
    with_english = [*ratios, english["+ GRPO"] / english["teacher, base"]]
    others = {
        "the median": statistics.median(ratios),
        "the geometric mean": statistics.geometric_mean(ratios),
        "the ratio of the sums": student / teacher,
        "the mean without FLORES": statistics.mean(ratio for name, *_, ratio in rows if name != "FLORES"),
        "the mean with English": statistics.mean(with_english),
    }
    moved = [ratio * (_half(row["student"]) / row["student"] + _half(row["teacher"]) / row["teacher"])
             for ratio, row in zip(ratios, paper["final"], strict=True)]  # fmt: skip
    return Recomputed(
        rows,
        100 * statistics.mean(ratios),
        {name: 100 * value for name, value in others.items()},
        paper["mean_recovery"],
        100 * statistics.mean(moved),
    )


def _half(number: float) -> float:
    """Half of a printed number's last digit: two decimals, or one of those that are printed with one."""
    return 0.05 if round(number, 1) == number and f"{number:.2f}".endswith("0") else 0.005
