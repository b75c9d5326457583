"""What is planned for: the GPU that is named, its node and its Transformer Engine, whatever the machine that plans has."""

import pytest

from nemo_plugins.planning import checks, distill_plan
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose

FLAGSHIP = ("+model=bielik11b", "experiment=minitron_7b")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch, tmp_path):
    for key in ("WORLD_SIZE", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "MINITRON_RUNTIME", "MINITRON_GPUS_PER_NODE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(checks, "has_gpu", lambda: False)
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)


def config(*overrides):
    return compose([*FLAGSHIP, *overrides])


def test_a_plan_counts_with_the_gpu_that_is_named():
    for words, gpu, memory in (((), "h100", 80), (("platform.gpu=a100-40",), "a100-40", 40), (("plan.gpu=h200",), "h200", 140)):
        cfg = config(*words)
        assert (cfg.plan.gpu, cfg.platform.gpu_memory_gib) == (gpu, memory)
    assert config("platform.gpu=a100-80", "platform.gpu_memory_gib=64").platform.gpu_memory_gib == 64
    with pytest.raises(UserError, match="platform.gpu=a100: no such device"):
        config("platform.gpu=a100")


def test_as_many_gpus_are_on_more_nodes_where_a_node_has_fewer(monkeypatch):
    def shape(*words):
        platform = config(*words).platform
        return platform.nodes, platform.devices

    assert shape() == (2, 8)
    assert shape("platform.gpu=gh200") == (4, 4)
    assert shape("platform.gpu=gh200", "platform.devices=8") == (2, 8)  # what is given stays
    assert shape("platform.gpu=gh200", "platform.nodes=1") == (1, 4)
    monkeypatch.setenv("MINITRON_GPUS_PER_NODE", "2")  # the site knows its nodes
    assert shape() == (8, 2)
    monkeypatch.setenv("WORLD_SIZE", "16")
    assert shape() == (2, 8)  # a job has its own shape


def test_transformer_engine_is_what_the_platform_says(monkeypatch):
    def engine(*words):
        cfg = config(*words)
        return checks.fused(cfg), checks.engine(cfg)

    assert engine() == (False, "no, torch's own layers (platform.transformer_engine=auto: not installed here)")
    assert engine("platform.transformer_engine=true") == (True, "yes (platform.transformer_engine=true)")
    assert engine("platform=image")[0]
    monkeypatch.setenv("MINITRON_RUNTIME", "apptainer")
    assert engine() == (True, "yes (platform.transformer_engine=auto: MINITRON_RUNTIME=apptainer)")
    assert not engine("platform.transformer_engine=false")[0]
    monkeypatch.setattr(checks, "has_gpu", lambda: True)  # then this machine knows better
    assert not engine()[0]
    monkeypatch.setattr(checks, "find_spec", lambda name: name)
    assert engine()[0] and not engine("platform.transformer_engine=false")[0]


def test_asked_for_and_not_here_it_is_missing_where_a_gpu_is(monkeypatch):
    def said():
        made = distill_plan.plan(config("platform.transformer_engine=true"))
        return [one for one in made.missing if "cannot be used here" in one.text]

    assert not said()  # another machine runs it
    monkeypatch.setattr(checks, "has_gpu", lambda: True)
    assert said()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["platform.transformer_engine=maybe"], "platform.transformer_engine=maybe: expected auto, true or false"),
        (["platform.transformer_engine=true", "platform.kind=cpu"], "wants a GPU, and platform=cpu hides them"),
    ],
)
def test_what_cannot_be_is_refused(words, says):
    with pytest.raises(UserError, match=says):
        distill_plan.plan(compose(["+model=tiny_pl", *words]))


def test_tensor_parallelism_beyond_a_node_is_a_warning():
    made = distill_plan.plan(config("platform.gpu=gh200", "platform.tensor_parallel=8"))
    assert any(warning.startswith("platform.tensor_parallel=8: a node has 4 GPUs") for warning in made.warnings)
    assert not [
        warning for warning in distill_plan.plan(config("platform.tensor_parallel=8")).warnings if "a node has" in warning
    ]
