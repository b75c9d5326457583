"""Where a model fits: the formats, the room and the speed that a device allows."""

import pytest

from nemo_plugins.configs.schema import Format
from nemo_plugins.planning import devices, fit, formats
from nemo_plugins.planning.estimate import PAPER


def device(name):
    return devices.load(name, "device")


def test_the_papers_student_fits_a_24_gb_card_in_bf16_and_its_teacher_does_not():
    card = device("rtx4090")
    student, teacher = (fit.best(model, card, 8192) for model in (PAPER.student, PAPER.teacher))
    assert (student.format, teacher.format) == (Format.bf16, Format.q8_0)
    weights, embedding, cache = 2 * PAPER.student.parameters(), 2 * 32128 * 4096, 40 * 2 * 8 * 128 * 2 * 8192
    assert student.tokens_per_second == pytest.approx(1008e9 / (weights - embedding + cache))


def test_room_is_what_the_weights_leave():
    phone = device("phone8")
    tokens = fit.room(PAPER.student, phone, Format.q4_k_m)
    cache = 40 * 2 * 8 * 128 * 2
    free = 0.65 * 8 * 2**30 - formats.weight_bytes(PAPER.student, Format.q4_k_m)
    assert tokens == int(free // cache) > 4096
    assert fit.room(PAPER.teacher, phone, Format.q4_k_m) == 0


def test_a_phone_takes_the_student_with_a_shorter_context_and_not_the_teacher():
    phone = device("phone8")
    found = fit.best(PAPER.student, phone, 8192)
    assert found.format is Format.q4_k_m and found.context < 8192
    assert fit.best(PAPER.teacher, phone, 8192) is None
    rows = fit.table([("teacher", PAPER.teacher), ("student", PAPER.student)], 8192).rows
    assert [row[2] for row in rows if "phone" in row[0]] == ["none fits", "q4_k_m"]
