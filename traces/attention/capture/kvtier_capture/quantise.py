"""int8 with one scale per token or per channel, whichever disturbs the attention less, and how much that is.

Source of the choice: keys have a few channels of huge values in every token, values have not (KIVI, arXiv 2402.02750,
figures 2 and 3); which of the two is better is measured on the recorded tensors, not assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

AXES = {"per-token": -1, "per-channel": -2}


@dataclass(frozen=True)
class Quantised:
    codes: torch.Tensor
    """int8 [kvHeads, tokens, headDim]"""
    scale: torch.Tensor
    """float16 or float32 [kvHeads, tokens] or [kvHeads, headDim]"""
    axis: str

    def restore(self) -> torch.Tensor:
        return self.codes.float() * self.scale.float().unsqueeze(AXES[self.axis])


def quantise(x: torch.Tensor, axis: str) -> Quantised:
    """Symmetric: value = code * scale, |code| <= 127. The codes belong to the scale as it is stored."""
    x = x.float()
    exact = x.abs().amax(dim=AXES[axis]) / 127
    scale = exact.half()
    if not bool(((scale > 6e-5) | (exact == 0)).all()) or bool(torch.isinf(scale).any()):
        scale = exact  # outside the range where half precision keeps three digits
    step = torch.where(scale == 0, torch.ones_like(scale), scale).float().unsqueeze(AXES[axis])
    return Quantised((x / step).round().clamp(-127, 127).to(torch.int8), scale, axis)


def quantise_field(
    tables: dict[int, dict[str, torch.Tensor]], name: str, axes: tuple[str, ...] = tuple(AXES)
) -> tuple[dict[int, Quantised], dict]:
    """Quantise `name` in every layer along the better of `axes`; with the metadata's account of the error."""
    best: tuple[float, dict[int, Quantised], dict] | None = None
    for axis in axes:
        parts = {layer: quantise(table[name], axis) for layer, table in tables.items()}
        account = _account(tables, name, parts)
        merit = account.get("rmsLogitError", account["relativeRmsError"])
        if best is None or merit < best[0]:
            best = (merit, parts, {"dtype": "int8", "scale": axis, **account})
    assert best is not None
    return best[1], best[2]


def _account(tables: dict[int, dict[str, torch.Tensor]], name: str, parts: dict[int, Quantised]) -> dict:
    error = energy = logit_energy = largest = 0.0
    logits = 0
    for layer, table in tables.items():
        x = table[name].float()
        difference = parts[layer].restore() - x
        error += float(difference.square().sum(dtype=torch.float64))
        energy += float(x.square().sum(dtype=torch.float64))
        if name == "k" and "q" in table:
            shift = _logits(table["q"].float(), difference)
            largest = max(largest, float(shift.abs().max()))
            logit_energy += float(shift.square().sum(dtype=torch.float64))
            logits += shift.numel()
    account = {"relativeRmsError": _digits((error / energy) ** 0.5 if energy else 0.0)}
    if logits:
        account |= {"rmsLogitError": _digits((logit_energy / logits) ** 0.5), "maxLogitError": _digits(largest)}
    return account


def _logits(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """queries [steps, heads, d], keys [kvHeads, tokens, d] -> [kvHeads, steps * group, tokens]"""
    steps, heads, dim = queries.shape
    grouped = queries.reshape(steps, keys.shape[0], heads // keys.shape[0], dim).permute(1, 0, 2, 3)
    return grouped.reshape(keys.shape[0], -1, dim) @ keys.transpose(1, 2) * dim**-0.5


def _digits(x: float) -> float:
    return float(f"{x:.3g}")
