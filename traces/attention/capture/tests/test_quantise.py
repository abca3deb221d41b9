"""int8: the reported error is the error, and the better kind of scale is taken."""

from __future__ import annotations

import pytest
import torch

from kvtier_capture.quantise import Account, quantise, quantise_best, restore


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


def test_channels_of_all_sizes_take_scales_per_channel_and_huge_tokens_per_token():
    queries = torch.randn(5, 4, 16, generator=torch.Generator().manual_seed(2))
    channel, token = keys(3), keys(3)
    channel[:, :, 5] *= 100
    token[:, 7] *= 100
    axes = ("per-token", "per-channel")
    assert quantise_best(channel, axes, Account(), queries).axis == "per-channel"
    assert quantise_best(token, axes, Account(), queries).axis == "per-token"


def test_a_constant_in_a_channel_costs_nothing():
    x = keys(7)
    shifted = x.clone()
    shifted[:, :, 3] += 128
    for axis in ("per-token", "per-channel"):
        plain, moved = quantise(x, axis).restore() - x, quantise(shifted, axis).restore() - shifted
        assert float(moved.norm()) < 1.3 * float(plain.norm())


def test_as_many_tokens_as_channels_are_read_as_they_were_written():
    x = keys(8)[:, :16]
    part = quantise_best(x, ("per-channel",), Account())
    torch.testing.assert_close(restore(part.codes, part.scale, part.offset), x, rtol=0, atol=0.02)


def test_the_account_is_measured_on_the_logits():
    x, queries = keys(4), torch.randn(5, 4, 16, generator=torch.Generator().manual_seed(5))
    sums = Account()
    shift = quantise_best(x, ("per-token",), sums, queries).restore() - x
    errors = [queries[s, h] @ shift[h // 2].T / 4 for s in range(5) for h in range(4)]
    account = sums.metadata()
    # What moves all logits of a row alike moves no probability.
    assert account["maxLogitError"] == pytest.approx(max(float((e - e.mean()).abs().max()) for e in errors), rel=1e-2)
    assert account["relativeRmsError"] == pytest.approx(float(shift.norm() / x.norm()), rel=1e-2)


def test_zero_and_tiny_rows_survive():
    x = keys(6)
    x[:, 0] = 0
    x[:, 1] *= 1e-6
    part = quantise(x, "per-token")
    torch.testing.assert_close(part.restore(), x, rtol=0.02, atol=2e-2)
    whole = quantise(x * 1e-6, "per-channel")
    assert whole.scale.dtype == torch.float32
    assert bool((whole.restore()[:, 2] != 0).any())
