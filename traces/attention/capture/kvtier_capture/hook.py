"""Plugs into transformers' common attention interface, so one hook sees q, k, v (after RoPE) of every architecture.

Source: transformers, AttentionInterface and AttentionMaskInterface (https://huggingface.co/docs/transformers,
"Attention backends"). Queries are handed on scaled so that softmax(q·k / sqrt(headDim)) is the model's attention.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import SCORE_ELEMENTS, attend
from .errors import CaptureError
from .recorder import Recorder

NAME = "kvtier_capture"
_active: Recorder | None = None


@contextlib.contextmanager
def recording(recorder: Recorder, model: torch.nn.Module) -> Iterator[None]:
    """While open, `model` (loaded with attn_implementation=NAME) reports its attention to `recorder`."""
    global _active
    _active = recorder
    try:
        with _keys_before_rope(recorder, model) if "kpre" in recorder.plan.fields else contextlib.nullcontext():
            yield
    finally:
        _active = None


def _forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    sliding_window: int | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    _refuse_unknown_terms(module, kwargs)
    recorder, layer = _active, getattr(module, "layer_idx", None)
    if recorder is None or layer is None:
        sums = None
    else:
        _note(recorder, layer, softcap, s_aux, sliding_window)
        recorder.observe(layer, _scaled(query[0], scaling), key[0], value[0])
        sums = recorder.column_sums(layer, query.shape[1], key.shape[2], query.shape[2], query.device)
    if sums is None and softcap is None and s_aux is None:
        return _plain(query, key, value, attention_mask, scaling), None
    mask = None if attention_mask is None else attention_mask[0]
    out = attend(
        query[0], key[0], value[0], scaling=scaling, mask=mask, softcap=softcap, sinks=s_aux, column_sums=sums
    )
    if recorder is not None and sums is not None:
        recorder.add_column_sums(layer, sums, query.shape[2])
    return out[None], None


def _scaled(query: torch.Tensor, scaling: float) -> torch.Tensor:
    factor = scaling * query.shape[-1] ** 0.5
    return query if abs(factor - 1) < 1e-9 else query * factor


def _plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Attention without a record, as many query rows at a time as SCORE_ELEMENTS allows: with a mask and grouped heads
    some devices hold all scores at once. [1, heads, rows, channels] -> [1, rows, heads, channels]."""
    heads, rows, tokens = query.shape[1], query.shape[2], key.shape[2]
    together = max(1, SCORE_ELEMENTS // (heads * tokens))
    outs = []
    for first in range(0, rows, together):
        part = query[:, :, first : first + together]
        if mask is not None:
            seen = mask[..., first : first + together, :tokens]
        else:
            # SDPA's own causal flag aligns at the upper left; a continued pass needs the lower right.
            positions = torch.arange(tokens - rows + first, tokens - rows + first + part.shape[2], device=query.device)
            seen = torch.arange(tokens, device=query.device)[None, :] <= positions[:, None]
        outs.append(torch.nn.functional.scaled_dot_product_attention(
            part, key, value, attn_mask=seen, scale=scaling, enable_gqa=heads != key.shape[1],
        ))
    return torch.cat(outs, dim=2).transpose(1, 2).contiguous()


def _note(
    recorder: Recorder, layer: int, softcap: float | None, s_aux: torch.Tensor | None, window: int | None
) -> None:
    recorder.seen_layers.add(layer)
    if window is not None:
        recorder.windows[layer] = int(window)
    if softcap is not None:
        recorder.extras["logitSoftcap"] = float(softcap)
    if s_aux is not None:
        recorder.extras["sinkLogits"] = True


def _refuse_unknown_terms(module: torch.nn.Module, kwargs: dict[str, object]) -> None:
    # A bias that is added to the scores would be lost silently: then neither q, k nor the output would be right.
    for name in ("position_bias", "alibi", "head_mask"):
        if kwargs.get(name) is not None:
            raise CaptureError(f"{type(module).__name__} adds {name} to its attention scores: not supported")


@contextlib.contextmanager
def _keys_before_rope(recorder: Recorder, model: torch.nn.Module) -> Iterator[None]:
    """Keep the key argument of the architecture's own `apply_rotary_pos_emb`, whatever its rotation convention."""
    names = {type(m).__module__ for m in model.modules() if hasattr(m, "layer_idx")}
    patched = [(m, m.apply_rotary_pos_emb) for n in names if hasattr(m := sys.modules[n], "apply_rotary_pos_emb")]

    def wrap(original):  # noqa: ANN001, ANN202 - the signature is each architecture's own
        def rotate(q, k, *args, **kwargs):  # noqa: ANN001, ANN002, ANN003, ANN202
            recorder.pending_kpre = k
            return original(q, k, *args, **kwargs)

        return rotate

    try:
        for module, original in patched:
            module.apply_rotary_pos_emb = wrap(original)
        yield
    finally:
        for module, original in patched:
            module.apply_rotary_pos_emb = original


ALL_ATTENTION_FUNCTIONS.register(NAME, _forward)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
