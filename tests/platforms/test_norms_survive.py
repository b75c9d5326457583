"""Layer norms survive both conversions without Transformer Engine, whose names for them NeMo's converters know alone."""

import pytest
from probes import CONVERSIONS

pytestmark = pytest.mark.nemo


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_every_tensor_comes_back_bit_for_bit(errors, conversion):
    assert errors[conversion, None] is None


def test_a_lost_norm_would_be_noticed(errors):
    assert errors["convert-mistral-float32", "converted_norms"] is not None
