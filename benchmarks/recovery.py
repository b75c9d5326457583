"""The paper's mean recovery, reckoned again from the rows that it prints.

python benchmarks/recovery.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nemo_plugins.reporting import paper_figures


def main() -> None:
    paper = paper_figures.recompute()
    print(f"{'benchmark':<12}{'student':>9}{'teacher':>9}{'recovery':>10}")
    for name, student, teacher, ratio in paper.rows:
        print(f"{name:<12}{student:>9.2f}{teacher:>9.2f}{100 * ratio:>9.2f}%")
    print(paper.words())


if __name__ == "__main__":
    main()
