"""How the tests share a machine: their order (nobody waits for the chain that the last ones look at), its cores, `--quick`."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from nemo_plugins import platforms

NEED_A_DEVICE = (platforms.TRANSFORMER_ENGINE, *platforms.APEX)
FIRST = "test_alignment.py"  # its process makes the short chain, while another runs the tests that need none
NEXT = ("test_search.py", "test_offline_teacher.py", "test_grpo.py")  # the longest, so that no process ends the tests alone
LONG = re.compile(r"^pytestmark = .*\bpytest\.mark\.(nemo|long)\b", re.MULTILINE)  # of a whole file

settings.register_profile("no clock", deadline=None)  # no test asserts a time
settings.load_profile("no clock")
# two processes of tests with as many OpenMP threads each as there are cores would wait for each other all the time
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before a server of warm starts has imported anything
if any(map(find_spec, NEED_A_DEVICE)) and not platforms.has_cuda():  # files that import Megatron at their top come later
    platforms.hide(NEED_A_DEVICE)


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="leave out what takes long (marks: nemo, long)")


def pytest_ignore_collect(collection_path, config):
    """Files marked as a whole are not even imported under `--quick`."""
    if config.getoption("quick") and collection_path.suffix == ".py" and LONG.search(collection_path.read_text("utf-8")):
        return True
    return None


def pytest_collection_modifyitems(config, items):
    if config.getoption("quick"):
        takes_long = [any(item.get_closest_marker(name) for name in ("nemo", "long")) for item in items]
        config.hook.pytest_deselected(items=[item for item, long in zip(items, takes_long, strict=True) if long])
        items[:] = [item for item, long in zip(items, takes_long, strict=True) if not long]

    def place(item) -> int:
        path = Path(item.path)
        if path.parent.name != "chain":
            return 1
        return 0 if path.name == FIRST else 2 if path.name in NEXT else 3

    items.sort(key=place)


@pytest.fixture(autouse=True)
def nemo_is_marked(request):
    """Under `--quick` a test that imports NeMo without the mark fails: half a minute must not slip into three."""
    before = "nemo" in sys.modules
    yield
    if request.config.getoption("quick"):
        assert before or "nemo" not in sys.modules, "this test imports NeMo: mark it with pytest.mark.nemo"
