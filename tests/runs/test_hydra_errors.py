"""What is said of a group or key that there is not."""

import pytest
from hydra.errors import HydraException

from nemo_plugins.configs import CONF
from nemo_plugins.configs.store import groups, options
from nemo_plugins.runs import hydra_errors
from nemo_plugins.runs.prepare import compose


def test_the_groups_that_are_offered_are_those_of_conf():
    assert {"language", "corpus", "sft", "dpo", "grpo", "eval", "export", "bench", "model"} <= set(groups())
    folders = {folder.name for folder in CONF.iterdir() if folder.is_dir()}
    assert folders - set(groups()) == {"device", "paper"}  # files that a key names, and what the paper states
    assert all(options(group) for group in groups())


def test_what_is_no_group_gets_the_list_and_the_keys_that_name_its_files():
    with pytest.raises(HydraException) as error:
        compose(["+model=tiny_pl", "device=h100"])
    said = hydra_errors.explain(error.value)
    assert "device: no such group" in said and "plan.gpu=" in said
    for group in groups():
        assert group in said.splitlines()[1]
    assert {key for keys in hydra_errors.FILES_OF_KEYS.values() for key in keys} <= set(hydra_errors.keys())
