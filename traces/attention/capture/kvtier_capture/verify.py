"""Checks a written file against the model itself, by a second, independent pass.

The second pass is teacher-forced (prompt and generated tokens at once, no step-by-step decode) and uses the
architecture's own eager attention code, not ours. Compared: attention probabilities and outputs of sampled layers
and steps as the file gives them, and the tokens and logits that the run chose.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .errors import CaptureError
from .hook import NAME as CAPTURE
from .run import Generation
from .trace_file import TraceFile

NAME = "kvtier_verify"
_probe: "Probe | None" = None


@dataclass
class Probe:
    """Rows of the decode steps of sampled layers, from the model's own eager attention."""

    layers: tuple[int, ...]
    steps: tuple[int, ...]
    taking: bool = False
    weights: dict[int, torch.Tensor] = field(default_factory=dict)
    """layer -> [heads, sampled steps, keys]"""
    outputs: dict[int, torch.Tensor] = field(default_factory=dict)
    """layer -> [sampled steps, heads, headDim]"""


@dataclass(frozen=True)
class Report:
    maxProbabilityError: float  # noqa: N815 - goes into the file's metadata under this name
    maxVariationDistance: float  # noqa: N815
    relativeOutputError: float | None  # noqa: N815
    maxLogitError: float  # noqa: N815
    tokensAgree: int  # noqa: N815
    tokens: int
    rows: int

    def lines(self) -> list[str]:
        output = "not recorded" if self.relativeOutputError is None else f"{self.relativeOutputError:.3g}"
        return [
            f"verify: {self.rows} rows of (layer, step, head) against the model's own eager attention",
            f"verify: probability error max {self.maxProbabilityError:.3g}, "
            f"total variation max {self.maxVariationDistance:.3g}, output error (relative RMS) {output}",
            f"verify: teacher-forced pass agrees on {self.tokensAgree} of {self.tokens} tokens, "
            f"logit error max {self.maxLogitError:.3g}",
        ]


def verify(
    trace: TraceFile, model: torch.nn.Module, prompt: list[int], generation: Generation, greedy: bool, chunk: int
) -> Report:
    recorded, steps = trace.metadata["recordedLayers"], len(generation.tokens)
    if "q" not in trace.metadata["fields"] or "k" not in trace.metadata["fields"]:
        raise CaptureError("--verify: needs k and q among --fields")
    probe = Probe(_spread(recorded, 4), _spread(range(steps), 4))
    logits = _teacher_forced(model, prompt, generation.tokens, probe, chunk)
    errors, distances, shift, energy = [], [], 0.0, 0.0
    for layer in probe.layers:
        for row, step in enumerate(probe.steps):
            ours, theirs = trace.probabilities(layer, step), probe.weights[layer][:, row]
            theirs = _aligned(theirs, ours.shape[1], len(prompt) + steps)
            errors.append(float((ours - theirs).abs().max()))
            distances.append(float((ours - theirs).abs().sum(dim=-1).max() / 2))
            if "v" in trace.metadata["fields"]:
                output = _output(ours, trace.tensor("v", layer))
                shift += float((output - probe.outputs[layer][row]).square().sum())
                energy += float(probe.outputs[layer][row].square().sum())
    chosen = logits.gather(1, torch.tensor(generation.tokens)[:, None])[:, 0]
    agree = int((logits.argmax(dim=1) == torch.tensor(generation.tokens)).sum()) if greedy else steps
    return Report(
        maxProbabilityError=max(errors),
        maxVariationDistance=max(distances),
        relativeOutputError=(shift / energy) ** 0.5 if energy else None,
        maxLogitError=float((chosen - torch.tensor(generation.logits)).abs().max()),
        tokensAgree=agree,
        tokens=steps,
        rows=len(probe.layers) * len(probe.steps) * trace.metadata["model"]["heads"],
    )


def _teacher_forced(model, prompt, generated, probe, chunk):  # noqa: ANN001, ANN202
    """Logits [steps, vocab] that predict each generated token; the probe takes the decode rows on the way."""
    device = next(model.parameters()).device
    text = [*prompt, *generated]
    # The decode rows must come in one pass, so that one mask row per step holds the whole context.
    bounds = [*range(0, len(prompt) - 1, chunk), len(prompt) - 1, len(prompt), len(text)]
    pieces, cache = [], None
    with torch.inference_mode(), _probing(probe, model):
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            probe.taking = first == len(prompt)
            output = model(
                input_ids=torch.tensor([text[first:last]], device=device), past_key_values=cache, use_cache=True
            )
            cache = output.past_key_values
            if first >= len(prompt) - 1:
                pieces.append(output.logits[0].float().cpu())
    return torch.cat(pieces)[:-1]


@contextlib.contextmanager
def _probing(probe: Probe, model: torch.nn.Module) -> Iterator[None]:
    global _probe
    _probe = probe
    try:
        model.set_attn_implementation(NAME)
        yield
    finally:
        _probe = None
        model.set_attn_implementation(CAPTURE)


def _eager(module, query, key, value, attention_mask, **kwargs):  # noqa: ANN001, ANN003, ANN202
    own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if own is None:
        raise CaptureError(f"--verify: {type(module).__name__} has no eager attention of its own to compare with")
    output, weights = own(module, query, key, value, attention_mask, **kwargs)
    layer = getattr(module, "layer_idx", None)
    if _probe is not None and _probe.taking and layer in _probe.layers:
        rows = list(_probe.steps)
        _probe.weights[layer] = weights[0][:, rows].float().cpu()
        _probe.outputs[layer] = output[0][rows].float().cpu()
    return output, weights


def _aligned(weights: torch.Tensor, keys: int, total: int) -> torch.Tensor:
    """Weights over the cache's keys (the last ones of `total`) as weights over positions 0 .. keys-1."""
    full = torch.zeros(weights.shape[0], total)
    full[:, total - weights.shape[1] :] = weights
    return full[:, :keys]


def _output(probabilities: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    heads, keys = probabilities.shape
    grouped = probabilities.reshape(values.shape[0], heads // values.shape[0], keys)
    return (grouped @ values[:, :keys]).reshape(heads, -1)


def _spread(items, count: int) -> tuple[int, ...]:  # noqa: ANN001
    """`count` of the items from first to last, evenly."""
    items = list(items)
    if len(items) <= count:
        return tuple(items)
    return tuple(items[round(i * (len(items) - 1) / (count - 1))] for i in range(count))


ALL_ATTENTION_FUNCTIONS.register(NAME, _eager)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
