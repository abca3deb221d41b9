"""Reads the prompt in chunks and generates step by step, while the hook records.

Positions: the query of step s sits at promptTokens + s; the first generated token comes from the prompt's last logits
and is fed at step 0. Same seed, model and machine: same tokens.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from .errors import CaptureError
from .hook import recording
from .recorder import Recorder


@dataclass(frozen=True)
class Sampling:
    """temperature 0 = greedy. `stop_tokens` end the run, unless `ignore_stop`: then they are never chosen."""

    temperature: float = 0.0
    seed: int = 0
    stop_tokens: tuple[int, ...] = ()
    ignore_stop: bool = False


@dataclass
class Generation:
    tokens: list[int] = field(default_factory=list)
    """Tokens that were fed, one a step."""
    logits: list[float] = field(default_factory=list)
    """The logit of each token at its choice: what a teacher-forced pass must reproduce."""


def generate(
    model: torch.nn.Module, prompt: list[int], recorder: Recorder, sampling: Sampling, chunk: int, quiet: bool
) -> Generation:
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(sampling.seed)
    result = Generation()
    steps = recorder.plan.steps
    bar = tqdm(total=len(prompt) + steps, unit="tok", desc="prefill", disable=True if quiet else None)
    with torch.inference_mode(), recording(recorder, model), bar:
        cache = None
        for first in range(0, len(prompt), chunk):
            piece = prompt[first : first + chunk]
            logits, cache = _forward(model, piece, first, cache, recorder, device)
            bar.update(len(piece))
        bar.set_description("decode")
        for step in range(steps):
            token = _choose(logits, sampling, generator)
            if token in sampling.stop_tokens:
                break
            result.tokens.append(token)
            result.logits.append(float(logits[token]))
            logits, cache = _forward(model, [token], len(prompt) + step, cache, recorder, device)
            bar.update(1)
    if not result.tokens:
        raise CaptureError("the model ended its answer at once: no decode step to record (try --ignore-stop)")
    recorder.finish(len(result.tokens))
    return result


def _forward(model, tokens, position, cache, recorder, device):  # noqa: ANN001, ANN202
    """One pass over `tokens` starting at `position`; returns (last token's logits float32 on the CPU, cache)."""
    recorder.position = position
    options = {"logits_to_keep": 1} if keeps_logits(model) else {}
    output = model(
        input_ids=torch.tensor([tokens], device=device), past_key_values=cache, use_cache=True, **options
    )
    return output.logits[0, -1].float().cpu(), output.past_key_values


def keeps_logits(model: torch.nn.Module) -> bool:
    """Whether the model can leave out the logits of all but the last tokens: vocabulary-wide rows are large."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def _choose(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.ignore_stop and sampling.stop_tokens:
        logits = logits.index_fill(0, torch.tensor(sampling.stop_tokens), float("-inf"))
    if sampling.temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / sampling.temperature, dim=-1), 1, generator=generator))
