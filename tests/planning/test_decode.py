"""The speed of one stream against the paper's measurement and against sums by hand."""

import pytest

from nemo_plugins.configs.schema import Format
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import decode, devices

TEACHER = Architecture(50, 4096, 14336, 32, 8, 128, 32128)
STUDENT = Architecture(40, 4096, 11264, 32, 8, 128, 32128)


def test_the_papers_student_is_bound_to_1_502_of_its_teachers_speed():
    assert round(decode.speed_up(TEACHER, STUDENT, Format.bf16), 3) == 1.502
    assert decode.speed_up(TEACHER, STUDENT, Format.bf16) == pytest.approx(81.41 / 54.42, rel=0.005)  # measured: 1.496


def test_no_measured_time_is_below_its_bound():
    device = devices.load("rtxpro6000", "device")
    for model, measured in ((TEACHER, 18.28), (STUDENT, 12.32)):  # the paper's, bf16
        bound = decode.milliseconds(model, device, Format.bf16)
        assert bound == pytest.approx(2 * (model.parameters() - model.embedding_parameters) / 1792e9 * 1e3)
        assert 0.6 * measured < bound < measured


def test_a_context_adds_its_cache_and_evens_the_two_out():
    more = decode.bytes_moved(STUDENT, Format.q4_k_m, 8192) - decode.bytes_moved(STUDENT, Format.q4_k_m)
    assert more == 163_840 * 8192  # bytes of a token's keys and values
    assert decode.speed_up(TEACHER, STUDENT, Format.bf16, 8192) < decode.speed_up(TEACHER, STUDENT, Format.bf16)
