"""Linear layers and attention that were made faster give what they gave before."""

import copy

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from modelworker_server.workers.attention import grouped_sdpa
from modelworker_server.workers.linear import FewRowsLinear, use_few_rows_linear
from tests.engine_support import random_model


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("outputs", [24, 12 * 16], ids=["narrow", "wide"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (4, 1), (8, 1), (9, 1), (1, 3), (2, 2)], ids=str)
def test_linear(shape: tuple[int, int], outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(12, outputs, bias=bias)
    values = torch.randn(*shape, 12)
    expected = layer(values)
    layer.__class__ = FewRowsLinear
    found = layer(values)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected)
    if shape == (1, 1):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "switched"),
    [pytest.param(torch.float32, True, id="float32"), pytest.param(torch.bfloat16, False, id="b")],
)
def test_which_models_are_switched(dtype: torch.dtype, switched: bool) -> None:
    model = copy.deepcopy(random_model("llama")).to(dtype)
    use_few_rows_linear(model)
    assert isinstance(model.lm_head, FewRowsLinear) == switched


@pytest.mark.parametrize("length", [1, 3], ids=["decode", "prefill"])
@pytest.mark.parametrize("masked", [False, True], ids=["no-mask", "mask"])
@pytest.mark.parametrize("heads", [1, 2, 4], ids=str)
def test_attention(length: int, masked: bool, heads: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, 4, length, 8)
    key, value = torch.randn(3, heads, 6, 8), torch.randn(3, heads, 6, 8)
    mask = torch.rand(3, 1, length, 6) > 0.3 if masked else None
    if mask is not None:
        mask[..., -1] = True
    module = torch.nn.Module()
    module.num_key_value_groups = 4 // heads  # type: ignore[assignment] # as in the models
    found, _ = grouped_sdpa(module, query, key, value, mask, scaling=0.3, dropout=0.0)
    expected, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)
