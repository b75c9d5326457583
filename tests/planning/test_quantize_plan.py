"""How the files of a quantisation are called."""

from nemo_plugins.planning import quantize_plan
from nemo_plugins.runs.prepare import compose


def test_no_two_stages_of_a_run_give_a_file_one_name():
    def name(*overrides: str) -> str:
        return quantize_plan.name(compose(["+model=tiny_pl", "run.name=mine/a", *overrides]))

    assert name() == name("run.stage=quantize") == "mine-a"
    assert name("run.stage=teacher-quantize") == "mine-a-teacher"
    assert name("run.stage=teacher-quantize", "export.name=asked") == "asked"
