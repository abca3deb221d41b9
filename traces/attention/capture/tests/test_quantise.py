"""int8: the reported error is the error, and the better kind of scale is taken."""

from __future__ import annotations

import pytest
import torch

from kvtier_capture.quantise import quantise, quantise_field


def keys(seed: int) -> torch.Tensor:
    return torch.randn(2, 50, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("axis", ["per-token", "per-channel"])
def test_no_value_moves_by_more_than_half_a_step(axis):  # noqa: ANN001
    x = keys(1)
    part = quantise(x, axis)
    assert part.codes.dtype == torch.int8
    step = part.scale.float().unsqueeze(-1 if axis == "per-token" else -2)
    # A stored scale below the exact one clips the largest value by at most 127 half-precision roundings.
    assert bool(((part.restore() - x).abs() <= step * (0.5 + 127 * 2**-11)).all())


def test_huge_channels_take_scales_per_channel_and_huge_tokens_per_token():
    queries = torch.randn(5, 4, 16, generator=torch.Generator().manual_seed(2))
    channel, token = keys(3), keys(3)
    channel[:, :, 5] *= 100
    token[:, 7] *= 100
    assert quantise_field({0: {"k": channel, "q": queries}}, "k")[1]["scale"] == "per-channel"
    assert quantise_field({0: {"k": token, "q": queries}}, "k")[1]["scale"] == "per-token"


def test_the_account_is_measured_on_the_logits():
    x, queries = keys(4), torch.randn(5, 4, 16, generator=torch.Generator().manual_seed(5))
    parts, account = quantise_field({3: {"k": x, "q": queries}}, "k", ("per-token",))
    shift = parts[3].restore() - x
    errors = [
        float((queries[s, h] @ shift[h // 2].T / 4).abs().max()) for s in range(5) for h in range(4)
    ]
    assert account["maxLogitError"] == pytest.approx(max(errors), rel=1e-2)
    assert account["relativeRmsError"] == pytest.approx(float(shift.norm() / x.norm()), rel=1e-2)


def test_zero_and_tiny_rows_survive():
    x = keys(6)
    x[:, 0] = 0
    x[:, 1] *= 1e-6
    part = quantise(x, "per-token")
    assert part.scale.dtype == torch.float32
    torch.testing.assert_close(part.restore(), x, rtol=0.02, atol=2e-2)
    assert bool((part.restore()[:, 1] != 0).any())
