"""The bundled model as GGUF, made once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export"))  # its folders.py


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory) -> Path:
    """Folder with Q8_0 and Q4_K_M of the bundled model, named as a run's are."""
    import folders

    from nemo_plugins.configs.schema import Target
    from nemo_plugins.export import gguf_file
    from nemo_plugins.planning import hf_folder

    to = tmp_path_factory.mktemp("gguf")
    gguf_file.convert(hf_folder.read(folders.TINY, "export"), to / ".base.gguf", "tiny_pl", adds_space=False)
    for target in (Target.q8_0, Target.q4_k_m):
        gguf_file.quantise(to / ".base.gguf", to / gguf_file.file_name("tiny_pl", target), target, 1, None)
    return to
