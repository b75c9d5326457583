"""How the tests share a machine: their order, so that nobody waits for the chain that the last ones look at, and its cores."""

import os
from pathlib import Path

FIRST = "test_alignment.py"  # its process makes the short chain, while another runs the tests that need none

# two processes of tests with as many OpenMP threads each as there are cores would wait for each other all the time
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        path = Path(item.path)
        return 1 if path.parent.name != "chain" else 0 if path.name == FIRST else 2

    items.sort(key=place)
