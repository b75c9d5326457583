"""The order of the tests: where two processes run them, nobody is to wait for the chain that the last ones look at."""

from pathlib import Path

FIRST = "test_alignment.py"  # its process makes the short chain, while another runs the tests that need none


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        path = Path(item.path)
        return 1 if path.parent.name != "chain" else 0 if path.name == FIRST else 2

    items.sort(key=place)
