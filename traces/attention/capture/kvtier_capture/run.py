"""Reads the prompt in chunks and generates step by step, or reads a given answer in chunks, while the hook records.

Positions: the query of step s sits at promptTokens + s; the first generated token comes from the prompt's last logits
and is fed at step 0. Same seed, model and machine: same tokens.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace

import torch
from tqdm import tqdm

from .checkpoint import Checkpoint, Progress, freeze_cache, thaw_cache
from .errors import CaptureError
from .hook import recording
from .prompts import Prompt
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
    """The logit of each token at its choice: what a teacher-forced pass must reproduce. Empty where none was chosen."""


def survey(model: torch.nn.Module, token: int, recorder: Recorder):  # noqa: ANN201 - any cache of transformers
    """One token through the model, nothing stored: the recorder learns layers and shapes. Returns the used cache."""
    with torch.inference_mode(), recording(recorder, model):
        _, cache = _forward(model, [token], 0, None, recorder)
    recorder.check_survey()
    return cache


def generate(
    model: torch.nn.Module, prompt: Prompt, recorder: Recorder, sampling: Sampling, chunk: int, quiet: bool,
    checkpoint: Checkpoint, progress: Progress, used_cache,  # noqa: ANN001
) -> Generation:
    """Run from `progress` (fresh, or loaded) to the end; `used_cache` is a cache of this model to thaw into."""
    random = torch.Generator().manual_seed(sampling.seed)
    if progress.random is not None:
        random.set_state(progress.random)
    cache, frozen = None, progress.cache
    if frozen is not None:
        cache, progress.cache = thaw_cache(frozen, used_cache, next(model.parameters()).device), None
    recorder.sums = progress.sums
    length = len(prompt.tokens)
    total = length + recorder.plan.steps
    bar = tqdm(total=total, initial=progress.fed, unit="tok", desc="prefill", disable=True if quiet else None)
    with torch.inference_mode(), recording(recorder, model), bar:
        while progress.fed < total and not progress.finished:
            if progress.fed < length:
                piece = prompt.tokens[progress.fed : progress.fed + chunk]
            elif prompt.forced:
                piece = list(prompt.forced[progress.fed - length : progress.fed - length + chunk])
                progress.tokens += piece
            else:
                bar.set_description("decode")
                piece = _next(progress, sampling, random)
            if piece:
                progress.last, cache = _forward(model, piece, progress.fed, cache, recorder)
                progress.fed += len(piece)
                bar.update(len(piece))
                if progress.fed == length:
                    recorder.end_of_prompt()
            if checkpoint.due() and piece:
                _save(checkpoint, progress, recorder, random, freeze_cache(cache))
    if not progress.tokens:
        raise CaptureError("the model ended its answer at once: no decode step to record (try --ignore-stop)")
    progress.finished = True
    _save(checkpoint, progress, recorder, random, None)
    return Generation(progress.tokens, progress.logits)


def _next(progress: Progress, sampling: Sampling, random: torch.Generator) -> list[int]:
    assert progress.last is not None
    token = _choose(progress.last, sampling, random)
    if token in sampling.stop_tokens:
        progress.finished = True
        return []
    progress.tokens.append(token)
    progress.logits.append(float(progress.last[token]))
    return [token]


def _save(
    checkpoint: Checkpoint, progress: Progress, recorder: Recorder, random: torch.Generator, cache: dict | None
) -> None:
    if cache is None and not progress.finished:
        return  # a cache of unknown make: an interrupted run starts again
    assert recorder.store is not None
    recorder.store.flush()  # first the rows, then the claim that they are there
    checkpoint.save(replace(progress, sums=recorder.sums, random=random.get_state(), cache=cache))


def _forward(model, tokens, position, cache, recorder):  # noqa: ANN001, ANN202
    """One pass over `tokens` starting at `position`; returns (last token's logits float32 on the CPU, cache)."""
    recorder.position = position
    options = {"logits_to_keep": 1} if keeps_logits(model) else {}
    output = model(
        input_ids=torch.tensor([tokens], device=next(model.parameters()).device), past_key_values=cache, use_cache=True,
        **options,
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
