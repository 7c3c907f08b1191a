"""Lower precision: near the full one, gone afterwards, and nothing at all where it is not asked for."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from tdm_core.training.precision import convolutions, matrix_products

SETTING = torch.backends.mkldnn.matmul


def product() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 256, 256, generator=generator)
    return left @ right


def test_products_in_bfloat16_are_near_those_in_float32():
    with matrix_products("bf16"):
        found, setting = product(), SETTING.fp32_precision
    assert setting == "bf16" and found.dtype == torch.float32
    error = (found - product()).norm() / product().norm()
    assert error < 2**-8  # the products' rounding; sums are float32's


def test_full_precision_changes_nothing():
    with matrix_products("fp32"):
        assert torch.equal(product(), product())
        assert SETTING.fp32_precision != "bf16"


def test_the_setting_ends_with_the_block_even_when_it_fails():
    before, plain = SETTING.fp32_precision, product()
    with pytest.raises(RuntimeError), matrix_products("bf16"):
        raise RuntimeError
    assert SETTING.fp32_precision == before and torch.equal(product(), plain)


def test_attention_is_the_same_function():
    query = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(1))
    expected = scaled_dot_product_attention(query, query, query)
    with matrix_products("bf16"):
        found = scaled_dot_product_attention(query, query, query)
    assert_close(found, expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_convolutions_take_autocast(precision, dtype):
    layer = torch.nn.Conv2d(2, 3, 3)
    with convolutions(precision):
        assert layer(torch.zeros(1, 2, 8, 8)).dtype == dtype
