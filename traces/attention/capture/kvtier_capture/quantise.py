"""int8 with an offset per channel and one scale per token or per channel, whichever disturbs the attention less.

Source of the choice: keys have a few channels of huge values in every token, values have not (KIVI, arXiv 2402.02750,
figures 2 and 3). Where a projection has a bias, a channel is huge because it is nearly constant: without an offset the
codes would be spent on the constant. Which scale is better is measured on every recorded tensor, not assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

AXES = {"per-token": -1, "per-channel": -2}
# Enough queries for an error that two captures can be compared by; a long generation has thousands.
SAMPLED_STEPS = 32


@dataclass(frozen=True)
class Quantised:
    codes: torch.Tensor
    """int8 [kvHeads, tokens, headDim]"""
    scale: torch.Tensor
    """float16 or float32 [kvHeads, tokens] or [kvHeads, headDim]"""
    offset: torch.Tensor | None
    """float16 or float32 [kvHeads, headDim]; none for queries"""
    axis: str

    def restore(self) -> torch.Tensor:
        return restore(self.codes, self.scale, self.offset)


def restore(codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor | None) -> torch.Tensor:
    """code * scale + offset as float32. A scale of [kvHeads, tokens] is per token, also where tokens = headDim."""
    per_token = scale.shape[1] == codes.shape[1]
    values = codes.float() * scale.float().unsqueeze(AXES["per-token" if per_token else "per-channel"])
    return values if offset is None else values + offset.float().unsqueeze(1)


def quantise(x: torch.Tensor, axis: str) -> Quantised:
    """value = code * scale + offset, |code| <= 127. The codes belong to scale and offset as they are stored."""
    x = x.float()
    # Per channel the middle of the range wastes no code; per token a single far token must not move all the others.
    offset = (x.amax(dim=1) + x.amin(dim=1)) / 2 if axis == "per-channel" else x.mean(dim=1)
    offset = offset.half() if bool((offset.abs() < 65504).all()) else offset
    x = x - offset.float().unsqueeze(1)
    exact = x.abs().amax(dim=AXES[axis]) / 127
    scale = exact.half()
    if not bool(((scale > 6e-5) | (exact == 0)).all()) or bool(torch.isinf(scale).any()):
        scale = exact  # outside the range where half precision keeps three digits
    step = torch.where(scale == 0, torch.ones_like(scale), scale).float().unsqueeze(AXES[axis])
    return Quantised((x / step).round().clamp(-127, 127).to(torch.int8), scale, offset, axis)


def quantise_queries(x: torch.Tensor) -> Quantised:
    """[steps, heads, headDim] with a scale per step and head: another query of nearly the same direction."""
    scale = (x.float().abs().amax(dim=-1) / 127).half()
    step = torch.where(scale == 0, torch.ones_like(scale), scale).float().unsqueeze(-1)
    return Quantised((x.float() / step).round().clamp(-127, 127).to(torch.int8), scale, None, "per-head")


@dataclass
class Account:
    """Sums the error of one field over its layers; what the metadata says of it comes from here."""

    axes: set[str] = field(default_factory=set)
    error: float = 0.0
    energy: float = 0.0
    logit_energy: float = 0.0
    largest: float = 0.0
    logits: int = 0
    has_offset: bool = False

    def add(self, x: torch.Tensor, part: Quantised, queries: torch.Tensor | None) -> None:
        """x [kvHeads, tokens, d]; queries [steps, heads, d] for keys, else None."""
        difference = part.restore() - x.float()
        self.axes.add(part.axis)
        self.has_offset |= part.offset is not None
        self.error += float(difference.square().sum(dtype=torch.float64))
        self.energy += float(x.float().square().sum(dtype=torch.float64))
        if queries is not None:
            shift = _logits(queries, difference)
            self.largest = max(self.largest, float(shift.abs().max()))
            self.logit_energy += float(shift.square().sum(dtype=torch.float64))
            self.logits += shift.numel()

    def merit(self) -> float:
        return self.logit_energy / self.logits if self.logits else self.error

    def metadata(self) -> dict:
        scale = next(iter(self.axes)) if len(self.axes) == 1 else "per-token or per-channel"
        account = {"dtype": "int8", "scale": scale, **({"offset": "per-channel"} if self.has_offset else {}),
                   "relativeRmsError": _digits((self.error / self.energy) ** 0.5 if self.energy else 0.0)}
        if self.logits:
            account |= {"rmsLogitError": _digits((self.logit_energy / self.logits) ** 0.5),
                        "maxLogitError": _digits(self.largest)}
        return account


def quantise_best(
    x: torch.Tensor, axes: tuple[str, ...], account: Account, queries: torch.Tensor | None = None
) -> Quantised:
    """Quantise one layer's tensor along the better of `axes` and add its error to `account`."""
    x = x.float()
    if queries is not None:
        queries = queries[:: max(1, queries.shape[0] // SAMPLED_STEPS)].float()
    # A scale per channel could be read as one per token where there are as many of both.
    if x.shape[1] == x.shape[2]:
        axes = ("per-token",)
    best: tuple[float, Quantised] | None = None
    for axis in axes:
        part, trial = quantise(x, axis), Account()
        if len(axes) > 1:
            trial.add(x, part, queries)
        if best is None or trial.merit() < best[0]:
            best = (trial.merit(), part)
    assert best is not None
    account.add(x, best[1], queries)
    return best[1]


def _logits(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """queries [steps, heads, d], keys [kvHeads, tokens, d] -> [kvHeads, steps * group, tokens], each row's mean taken
    away: a shift of all logits of a row is none to softmax."""
    steps, heads, dim = queries.shape
    grouped = queries.reshape(steps, keys.shape[0], heads // keys.shape[0], dim).permute(1, 0, 2, 3)
    logits = grouped.reshape(keys.shape[0], -1, dim) @ keys.transpose(1, 2) * dim**-0.5
    return logits - logits.mean(dim=-1, keepdim=True)


def _digits(x: float) -> float:
    return float(f"{x:.3g}")
