"""One capture from flags to file: survey, run, pack, verify, publish; resumed where an earlier one stopped.

On disk while it runs: OUT.partial (the tensors, no trace until its header is written), OUT.partial.state (checkpoint.py)
and, for int8 or an answer that ended early, OUT.partial.packed. OUT appears complete, or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import os
import sys

import torch

from .checkpoint import Checkpoint, Progress, remove
from .container import Container
from .errors import CaptureError, CaptureStopped
from .load import context_tokens, identity, load_config, load_model, load_tokenizer, locate
from .metadata import describe, summary
from .prompts import Prompt, forced_answer, from_file, from_task
from .quantise import AXES
from .recorder import Plan, Recorder
from .run import Generation, Sampling, generate, survey
from .trace_file import FORMAT, TraceFile, header_room, pack, publish
from .verify import tolerance, verify

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
QUANTISE = {"none": (), "int8": tuple(AXES), "int8-per-token": ("per-token",), "int8-per-channel": ("per-channel",)}
# Flags that change no byte of the trace: an interrupted capture may go on with others.
_FREE = ("out", "quiet", "verify", "checkpoint_seconds", "restart")
# A generated token is some characters of JSON inside JSON; should they be more, the file is packed instead.
_TEXT_BYTES = 24


def capture(flags: argparse.Namespace, fields: frozenset[str]) -> None:
    source = locate(flags.model, flags.gguf)
    config = load_config(source)
    layers = parse_layers(flags.layers, config.get_text_config().num_hidden_layers)
    tokenizer = load_tokenizer(source)
    prompt = _prompt(flags, tokenizer, context_tokens(config))
    if flags.answer_text is not None:
        prompt = dataclasses.replace(prompt, forced=forced_answer(tokenizer, flags.answer_text, flags.steps))
    partial = f"{flags.out}.partial"
    checkpoint = Checkpoint(f"{partial}.state", _signature(flags, prompt, identity(source, config)),
                            flags.checkpoint_seconds)
    if flags.restart:
        checkpoint.remove()
    progress = checkpoint.load()
    model = load_model(source, flags.device, DTYPES[flags.dtype])
    window = min(flags.window, len(prompt.tokens))
    recorder = Recorder(Plan(fields, len(prompt.tokens), flags.steps, window, layers, DTYPES[flags.store]))
    used_cache = survey(model, prompt.tokens[0], recorder)

    def metadata_of(steps: int, text: str) -> dict:
        return describe(flags, source, config, recorder, prompt, type(model).__name__, steps, text)

    room = header_room(metadata_of(flags.steps, ""), len(fields) * len(recorder.recorded)) + _TEXT_BYTES * flags.steps
    store, progress = _open(recorder, partial, room, progress)
    if progress.fed:
        print(f"kvtier-capture: going on after {progress.fed} of {recorder.plan.tokens} tokens", file=sys.stderr)
    sampling = Sampling(0.0 if flags.greedy else flags.temperature, flags.seed, _stop_tokens(model, tokenizer),
                        flags.ignore_stop)
    with contextlib.closing(store):
        try:
            generation = generate(
                model, prompt, recorder, sampling, flags.chunk, flags.quiet, checkpoint, progress, used_cache
            )
            metadata = metadata_of(len(generation.tokens), tokenizer.decode(generation.tokens))
            file, metadata = _pack(store, metadata, recorder, QUANTISE[flags.quantise])
            file.seal(metadata)
            if flags.verify:
                _verify(flags, file, metadata, model, prompt, generation, sampling)
            file.close()
        except CaptureStopped:
            raise
        except KeyboardInterrupt:
            raise CaptureStopped(f"interrupted after {progress.fed} of {recorder.plan.tokens} tokens: "
                                 "run the same command again, it goes on from the last checkpoint") from None
        except CaptureError:
            # The input is at fault: there is nothing to go on with.
            checkpoint.remove()
            remove(partial)
            raise
    publish(file.path, flags.out)
    checkpoint.remove()
    remove(partial)
    print("\n".join(summary(flags, metadata, prompt)), file=sys.stderr)


def _open(recorder: Recorder, path: str, room: int, progress: Progress | None) -> tuple[Container, Progress]:
    """The partial file with the rows that `progress` speaks of, or a fresh one and fresh progress."""
    if progress is not None and os.path.exists(path):
        store = Container(path, room, keep=True)
        recorder.reserve(store)
        if os.path.getsize(path) == store.size_bytes:
            return store, progress
        store.close()
    store = Container(path, room)
    recorder.reserve(store)
    try:
        store.allocate()
    except CaptureStopped as error:
        store.close()
        remove(path)
        raise CaptureStopped(f"{error} ({store.size_bytes} bytes are needed)") from error
    return store, Progress()


def _pack(store: Container, metadata: dict, recorder: Recorder, axes: tuple[str, ...]) -> tuple[Container, dict]:
    """The partial file itself where it is already what is wanted, else another with int8 or fewer steps."""
    complete, steps = {"format": FORMAT, **metadata}, metadata["steps"]
    if not axes and steps == recorder.plan.steps and store.fits({**complete, "room": " " * 1024}):
        return store, complete

    def read(name: str, layer: int) -> torch.Tensor:
        tensor = store.read(f"{name}.{layer}")
        assert recorder.shape is not None
        shape = recorder.plan.shape_of(name, *recorder.shape, steps)
        return tensor[: shape[0], : shape[1]]

    return pack(f"{store.path}.packed", read, metadata, axes)


def _verify(
    flags: argparse.Namespace, file: Container, metadata: dict, model: torch.nn.Module, prompt: Prompt,
    generation: Generation, sampling: Sampling,
) -> None:
    report = verify(TraceFile(file.path), model, prompt.tokens, generation, sampling)
    values = dataclasses.asdict(report).items()
    metadata["provenance"]["verified"] = {k: float(f"{x:.3g}") if isinstance(x, float) else x for k, x in values}
    file.seal(metadata)
    print("\n".join(report.lines()), file=sys.stderr)
    if "softmaxExtras" not in metadata["provenance"]:
        broken = report.beyond(tolerance(flags.dtype, flags.store, flags.quantise != "none"))
        if broken:
            raise CaptureStopped(f"verification failed: {broken}; the file is kept as {file.path}")


def _signature(flags: argparse.Namespace, prompt: Prompt, model: str) -> dict:
    """What two runs must share for one to go on where the other stopped."""
    chosen = {name: value for name, value in vars(flags).items() if name not in _FREE}
    digest = hashlib.sha256(" ".join(map(str, [*prompt.tokens, *prompt.forced])).encode()).hexdigest()
    return {**chosen, "prompt text": digest, "model files": model, "torch": str(torch.__version__)}


def parse_layers(spec: str, layers: int) -> frozenset[int] | None:
    """`all` -> None; `every:N` -> 0, N, 2N …; `a,b,c` -> those. Numbers are checked against the model's layers."""
    if spec == "all":
        return None
    try:
        if spec.startswith("every:"):
            every = int(spec.removeprefix("every:"))
            chosen = frozenset(range(0, layers, every)) if every > 0 else frozenset()
        else:
            chosen = frozenset(int(part) for part in spec.split(","))
    except ValueError:
        chosen = frozenset()
    if not chosen:
        raise CaptureError(f"--layers {spec}: expected all, every:N or a list such as 4,14,24")
    outside = [layer for layer in sorted(chosen) if not 0 <= layer < layers]
    if outside:
        raise CaptureError(f"--layers {outside[0]}: the model has layers 0 to {layers - 1}")
    return chosen


def _prompt(flags: argparse.Namespace, tokenizer, context: int | None) -> Prompt:  # noqa: ANN001
    chat = bool(tokenizer.chat_template) if flags.chat is None else flags.chat
    if flags.context is not None:
        if context is not None and flags.context > context:
            raise CaptureError(f"--context {flags.context}: the model's context holds {context} tokens")
        context = flags.context
    room = None if context is None else context - flags.steps
    if room is not None and room < 1:
        raise CaptureError(f"--steps {flags.steps}: the context is {context} tokens")
    limit = flags.max_prompt_tokens if flags.max_prompt_tokens is not None else room
    if flags.prompt_file is not None:
        prompt = from_file(tokenizer, flags.prompt_file, chat, flags.max_prompt_tokens)
    elif limit is None:
        raise CaptureError(f"--task {flags.task}: this model states no context length: expected --context")
    else:
        prompt = from_task(tokenizer, flags.task, flags.text, limit, flags.seed, flags.depth, chat)
    if room is not None and len(prompt.tokens) > room:
        holder = "--context" if flags.context is not None else "the model's context"
        raise CaptureError(
            f"the prompt has {len(prompt.tokens)} tokens and {flags.steps} steps follow: {holder} holds {context}"
        )
    return prompt


def _stop_tokens(model, tokenizer) -> tuple[int, ...]:  # noqa: ANN001
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return tuple(sorted({i for i in [*ids, tokenizer.eos_token_id] if i is not None}))
