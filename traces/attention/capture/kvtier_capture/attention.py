"""Softmax attention in memory-bounded blocks, with the column sums that a plain kernel does not return.

Promise: the output equals the model's own attention up to rounding; no score matrix above SCORE_ELEMENTS exists.
"""

from __future__ import annotations

import torch

# 2^24 float32 scores are 64 MB: small beside any model, large enough that a block's matmul dominates its overhead.
SCORE_ELEMENTS = 1 << 24


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scaling: float,
    mask: torch.Tensor | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
    column_sums: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal attention of the last `rows` positions of `key`.

    query [heads, rows, d], key [kvHeads, tokens, d], value [kvHeads, tokens, dv] -> [rows, heads, dv] in query's dtype.
    mask: bool (True = attend) or additive, [1 or heads, rows, >= tokens]; None = causal, aligned at the lower right.
    sinks: one logit per head that takes softmax mass but has no value. Softmax and sums are float32.
    column_sums [heads, tokens] float32: each row's probabilities are added to it in place.
    """
    heads, rows, _ = query.shape
    kv_heads, tokens, _ = key.shape
    group = heads // kv_heads
    out = torch.empty(rows, heads, value.shape[-1], dtype=query.dtype, device=query.device)
    block = max(1, SCORE_ELEMENTS // (group * tokens))
    for first in range(0, rows, block):
        last = min(rows, first + block)
        seen = tokens - rows + last  # keys after the block's last row are masked for all of its rows
        for kv in range(kv_heads):
            own = slice(kv * group, (kv + 1) * group)
            scores = torch.matmul(query[own, first:last].float(), key[kv, :seen].float().T) * scaling
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            scores = _masked(scores, mask, own, first, last, seen, tokens - rows)
            probabilities = _softmax(scores, None if sinks is None else sinks[own])
            if column_sums is not None:
                column_sums[own, :seen] += probabilities.sum(dim=1)
            mixed = torch.matmul(probabilities, value[kv, :seen].float())
            out[first:last, own] = mixed.transpose(0, 1).to(out.dtype)
    return out


def _masked(
    scores: torch.Tensor, mask: torch.Tensor | None, own: slice, first: int, last: int, seen: int, offset: int
) -> torch.Tensor:
    if mask is None:
        positions = torch.arange(offset + first, offset + last, device=scores.device)
        allowed = torch.arange(seen, device=scores.device)[None, :] <= positions[:, None]
        return scores.masked_fill(~allowed[None], float("-inf"))
    part = (mask[own] if mask.shape[0] > 1 else mask)[:, first:last, :seen]
    return scores.masked_fill(~part, float("-inf")) if part.dtype == torch.bool else scores + part.float()


def _softmax(scores: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    if sinks is None:
        return torch.softmax(scores, dim=-1)
    extra = sinks.float().reshape(-1, 1, 1).expand(-1, scores.shape[1], 1)
    return torch.softmax(torch.cat([scores, extra], dim=-1), dim=-1)[..., :-1]
