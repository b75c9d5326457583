"""The training order of text with dialogues in it."""

import pytest

from nemo_plugins.data.mixed import Mixed


@pytest.mark.parametrize("share", [0.01, 0.1, 1 / 3, 0.5, 0.7, 1.0])
def test_each_prefix_holds_its_share_and_both_come_in_their_own_order(share):
    text = [{"item": f"text {number}", "dataset_id": 0} for number in range(1000)]  # as Megatron's blend has them
    dialogues = [{"item": f"dialogue {number}"} for number in range(1000)]
    mixed = Mixed(text, dialogues, share)
    assert all(mixed[place].keys() == {"item"} for place in range(1000))  # a batch can be stacked
    order = [mixed[place]["item"] for place in range(1000)]
    for kind, part in (("dialogue", share), ("text", 1 - share)):
        found = [item for item in order if item.startswith(kind)]
        assert found == [f"{kind} {number}" for number in range(len(found))]
        for n in (8, 100, 999, 1000):
            assert abs(sum(item.startswith(kind) for item in order[:n]) - part * n) < 1
    assert len(mixed) == 1000
    assert [mixed[place]["item"] for place in reversed(range(1000))] == order[::-1]  # whatever was asked for before
