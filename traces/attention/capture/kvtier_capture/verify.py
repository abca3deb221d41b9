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
from .run import Generation, Sampling, keeps_logits
from .trace_file import TraceFile

NAME = "kvtier_verify"
# Steps of which every recorded layer and head is compared.
SAMPLED_STEPS = 4
# Eager attention holds heads * rows * keys scores, a few times over: 2^26 of them are 256 MB in float32.
EAGER_ELEMENTS = 1 << 26
_probe: "Probe | None" = None


@dataclass
class Probe:
    """Rows of the decode steps of sampled layers, from the model's own eager attention."""

    layers: tuple[int, ...]
    steps: tuple[int, ...]
    first_step: int = 0
    """Step of the running pass's first row; negative in the prompt."""
    weights: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    """(layer, step) -> [heads, keys up to the step's own]"""
    outputs: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    """(layer, step) -> [heads, headDim]"""


@dataclass(frozen=True)
class Tolerance:
    """How far a right capture may be off: mean over (layer, step) of the worst head's total variation, and outputs."""

    variation: float
    output: float

    def __add__(self, other: "Tolerance") -> "Tolerance":
        return Tolerance(self.variation + other.variation, self.output + other.output)


# By what was measured on SmolLM2-135M, Qwen2.5-0.5B and Gemma-3-270M up to 32K tokens, with a factor of three or so:
# keys of Qwen2.5 reach 150, where f16 has steps of 0.1.
_STORED = {"f32": Tolerance(1e-4, 1e-4), "f16": Tolerance(0.02, 0.005), "bf16": Tolerance(0.15, 0.03)}
_COMPUTED = {"f32": Tolerance(1e-4, 1e-4), "f16": Tolerance(0.05, 0.02), "bf16": Tolerance(0.2, 0.1)}
_INT8 = Tolerance(0.08, 0.08)


def tolerance(computed: str, stored: str, int8: bool) -> Tolerance:
    """For a model that computes in one type and a file that stores another; the device makes no difference."""
    return _COMPUTED[computed] + _STORED[stored] + (_INT8 if int8 else Tolerance(0, 0))


@dataclass(frozen=True)
class Report:
    maxProbabilityError: float  # noqa: N815 - goes into the file's metadata under this name
    maxVariationDistance: float  # noqa: N815
    meanVariationDistance: float  # noqa: N815
    relativeOutputError: float | None  # noqa: N815
    maxLogitError: float | None  # noqa: N815
    tokensAgree: int | None  # noqa: N815
    tokens: int
    rows: int

    def beyond(self, allowed: Tolerance) -> str | None:
        """What exceeds the tolerance, in words; None where nothing does."""
        if self.meanVariationDistance > allowed.variation:
            return f"mean total variation {self.meanVariationDistance:.3g}, expected at most {allowed.variation:.3g}"
        if self.relativeOutputError is not None and self.relativeOutputError > allowed.output:
            return f"output error {self.relativeOutputError:.3g}, expected at most {allowed.output:.3g}"
        return None

    def lines(self) -> list[str]:
        output = "not recorded" if self.relativeOutputError is None else f"{self.relativeOutputError:.3g}"
        agree = "not chosen as the likeliest:" if self.tokensAgree is None else f"{self.tokensAgree} of"
        logits = "" if self.maxLogitError is None else f", logit error max {self.maxLogitError:.3g}"
        tokens = f"{agree} {self.tokens} tokens{logits}"
        return [
            f"verify: {self.rows} rows of (layer, step, head) against the model's own eager attention",
            f"verify: probability error max {self.maxProbabilityError:.3g}, "
            f"total variation max {self.maxVariationDistance:.3g} mean {self.meanVariationDistance:.3g}, "
            f"output error (relative RMS) {output}",
            f"verify: teacher-forced pass agrees on {tokens}",
        ]


def verify(
    trace: TraceFile, model: torch.nn.Module, prompt: list[int], generation: Generation, sampling: Sampling
) -> Report:
    recorded, steps = trace.metadata["recordedLayers"], len(generation.tokens)
    if "q" not in trace.metadata["fields"] or "k" not in trace.metadata["fields"]:
        raise CaptureError("--verify: needs k and q among --fields")
    probe = Probe(tuple(recorded), _spread(range(steps), SAMPLED_STEPS))
    forced = _teacher_forced(model, prompt, generation.tokens, probe, trace.metadata["model"]["heads"], sampling)
    errors, distances, shift, energy = [], [], 0.0, 0.0
    for layer in probe.layers:
        keys, queries = trace.tensor("k", layer), trace.tensor("q", layer)
        values = trace.tensor("v", layer) if "v" in trace.metadata["fields"] else None
        for step in probe.steps:
            ours = trace.probabilities_of(layer, step, queries[step], keys)
            theirs = _aligned(probe.weights[layer, step], ours.shape[1])
            errors.append(float((ours - theirs).abs().max()))
            distances.append(float((ours - theirs).abs().sum(dim=-1).max() / 2))
            if values is not None:
                output, own = _output(ours, values), probe.outputs[layer, step]
                shift += float((output - own).square().sum())
                energy += float(own.square().sum())
    agree = sum(a == b for a, b in zip(forced.likeliest, generation.tokens, strict=True))
    chose = len(generation.logits) > 0
    differences = [abs(a - b) for a, b in zip(forced.chosen, generation.logits, strict=chose)]
    return Report(
        maxProbabilityError=max(errors),
        maxVariationDistance=max(distances),
        meanVariationDistance=sum(distances) / len(distances),
        relativeOutputError=(shift / energy) ** 0.5 if energy else None,
        maxLogitError=max(differences) if chose else None,
        tokensAgree=agree if chose and sampling.temperature == 0 else None,
        tokens=steps,
        rows=len(probe.layers) * len(probe.steps) * trace.metadata["model"]["heads"],
    )


@dataclass
class _Forced:
    likeliest: list[int] = field(default_factory=list)
    chosen: list[float] = field(default_factory=list)
    """The logit of each generated token, and the likeliest token, where it was to be predicted."""


def _teacher_forced(model, prompt, generated, probe, heads, sampling):  # noqa: ANN001, ANN202
    """Feeds prompt and generated tokens; the probe takes the decode rows on the way."""
    device = next(model.parameters()).device
    text, result, cache, first = [*prompt, *generated], _Forced(), None, 0
    with torch.inference_mode(), _probing(probe, model):
        while first < len(text):
            last = min(len(text), first + max(1, EAGER_ELEMENTS // (heads * len(text))))
            # The last prompt token predicts the first generated one, so that its row belongs to what follows.
            if first < len(prompt) - 1:
                last = min(last, len(prompt) - 1)
            probe.first_step = first - len(prompt)
            output = model(
                input_ids=torch.tensor([text[first:last]], device=device), past_key_values=cache, use_cache=True,
                **({"logits_to_keep": 1} if first < len(prompt) - 1 and keeps_logits(model) else {}),
            )
            cache = output.past_key_values
            if first >= len(prompt) - 1:
                # Row i predicts the token after it; the last token of all predicts nothing that was recorded.
                targets = text[first + 1 : last + 1]
                logits = output.logits[0, : len(targets)].float().cpu()
                if sampling.ignore_stop:
                    logits[:, list(sampling.stop_tokens)] = float("-inf")
                result.likeliest += logits.argmax(dim=-1).tolist()
                result.chosen += logits[range(len(targets)), targets].tolist()
            first = last
    return result


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
    if _probe is None or layer not in _probe.layers:
        return output, weights
    rows = weights.shape[2]
    for step in _probe.steps:
        row = step - _probe.first_step
        if 0 <= row < rows:
            # Keys after the row's own are masked.
            _probe.weights[layer, step] = weights[0, :, row, : weights.shape[3] - rows + row + 1].float().cpu()
            _probe.outputs[layer, step] = output[0, row].float().cpu()
    return output, weights


def _aligned(weights: torch.Tensor, keys: int) -> torch.Tensor:
    """Weights over the cache's keys (the last ones; a sliding layer has dropped the others) over all positions."""
    full = torch.zeros(weights.shape[0], keys)
    full[:, keys - weights.shape[1] :] = weights
    return full


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
