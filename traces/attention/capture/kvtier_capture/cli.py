"""The command line: flags in, one trace file out. Exit 0 done, 2 bad input or unsupported model (one line says why)."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import os
import sys

import torch
import transformers

from . import TOOL
from .errors import CaptureError
from .load import Source, context_tokens, describe_model, describe_rope, load_config, load_model, load_tokenizer, locate
from .prompts import TASKS, Prompt, from_file, from_task
from .quantise import AXES
from .recorder import FIELDS, Plan, Recorder
from .run import Generation, Sampling, generate
from .trace_file import TraceFile, build, write
from .verify import verify

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
STEPS, LONG_STEPS = 64, 1024
QUANTISE = {"none": (), "int8": tuple(AXES), "int8-per-token": ("per-token",), "int8-per-channel": ("per-channel",)}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="kvtier-capture", description=__doc__.split("\n")[0])
    model = p.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="Hugging Face name or a local folder")
    model.add_argument("--gguf", help="a GGUF file (its weights are de-quantised)")
    prompt = p.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt-file", help="text, or a .json list of {role, content} messages")
    prompt.add_argument("--task", choices=TASKS, help="make a long-context prompt whose answer lies far back")
    p.add_argument("--text", help="the book (UTF-8) that a task's prompt is made from")
    p.add_argument("--depth", type=float, default=0.1, help="where the fact lies, 0 = start, 1 = end (default 0.1)")
    p.add_argument("--chat", action=argparse.BooleanOptionalAction, help="use the chat template (default: if it has one)")
    p.add_argument("--context", type=int, help="tokens of prompt and steps together (default: the model's context)")
    p.add_argument("--max-prompt-tokens", type=int, help="longest prompt (default: what the context leaves)")
    p.add_argument("--steps", type=int, help=f"decode steps to record (default {STEPS}; "
                   f"--task long-generation: {LONG_STEPS})")
    p.add_argument("--layers", default="all", help="all, every:N or a list such as 4,14,24 (default all)")
    p.add_argument("--fields", default="k,v,q,qprompt,prefillMass", help=f"of {','.join(FIELDS)}")
    p.add_argument("--window", type=int, default=64, help="prompt queries to keep in qprompt (default 64)")
    p.add_argument("--quantise", choices=tuple(QUANTISE), default="none",
                   help="k, kpre and v as int8; plain int8 takes the kind of scale with the lower error")
    p.add_argument("--store", choices=tuple(DTYPES), default="f16", help="type of what is not quantised (default f16)")
    p.add_argument("--dtype", choices=tuple(DTYPES), default="f32", help="type the model computes in (default f32)")
    p.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default cpu)")
    p.add_argument("--chunk", type=int, default=1024, help="prompt tokens a pass (default 1024)")
    p.add_argument("--greedy", action="store_true", help="always the likeliest token (the default)")
    p.add_argument("--temperature", type=float, default=0.0, help="sample at this temperature instead")
    p.add_argument("--ignore-stop", action="store_true", help="never choose an end-of-text token")
    p.add_argument("--seed", type=int, default=0, help="of the task and of sampling (default 0)")
    p.add_argument("--name", help="model name in the trace (default: from the flag)")
    p.add_argument("--source", help="where the model comes from, for the trace's provenance")
    p.add_argument("--prompt-source", default="unknown", help="where the prompt's text comes from")
    p.add_argument("--prompt-licence", default="unknown")
    p.add_argument("--model-licence", default="unknown")
    p.add_argument("--verify", action="store_true", help="compare the file with the model's own eager attention")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    p.add_argument("--out", required=True, help="the .safetensors file to write")
    return p


def main(argv: list[str] | None = None) -> int:
    flags = parser().parse_args(argv)
    transformers.logging.set_verbosity_error()
    if flags.quiet or not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    try:
        capture(flags)
    except CaptureError as error:
        print(f"kvtier-capture: {error}", file=sys.stderr)
        return 2
    return 0


def capture(flags: argparse.Namespace) -> None:
    fields = _check(flags)
    source = locate(flags.model, flags.gguf)
    config = load_config(source)
    layers = parse_layers(flags.layers, config.get_text_config().num_hidden_layers)
    tokenizer = load_tokenizer(source)
    prompt = _prompt(flags, tokenizer, context_tokens(config))
    model = load_model(source, flags.device, DTYPES[flags.dtype])
    window = min(flags.window, len(prompt.tokens))
    recorder = Recorder(Plan(fields, len(prompt.tokens), flags.steps, window, layers, DTYPES[flags.store]))
    stop = _stop_tokens(model, tokenizer)
    sampling = Sampling(0.0 if flags.greedy else flags.temperature, flags.seed, stop, flags.ignore_stop)
    generation = generate(model, prompt.tokens, recorder, sampling, flags.chunk, flags.quiet)
    text = tokenizer.decode(generation.tokens)
    metadata = _metadata(flags, source, config, recorder, prompt, generation, text, type(model).__name__)
    tensors, metadata = build(
        recorder.tables, metadata, axes=QUANTISE[flags.quantise], dtype=DTYPES[flags.store]
    )
    write(flags.out, tensors, metadata)
    _say(flags, metadata, prompt, text)
    if flags.verify:
        report = verify(
            TraceFile(flags.out), model, prompt.tokens, generation, sampling
        )
        metadata["provenance"]["verified"] = {
            name: float(f"{x:.3g}") if isinstance(x, float) else x for name, x in dataclasses.asdict(report).items()
        }
        write(flags.out, tensors, metadata)
        print("\n".join(report.lines()), file=sys.stderr)


def _check(flags: argparse.Namespace) -> frozenset[str]:
    if flags.steps is None:
        flags.steps = LONG_STEPS if flags.task == "long-generation" else STEPS
    for name, least in (("steps", 1), ("window", 1), ("chunk", 1), ("max_prompt_tokens", 1), ("context", 1)):
        value = getattr(flags, name)
        if value is not None and value < least:
            raise CaptureError(f"--{name.replace('_', '-')} {value}: expected at least {least}")
    if not 0 <= flags.depth <= 1:
        raise CaptureError(f"--depth {flags.depth}: expected 0 to 1")
    if flags.temperature < 0:
        raise CaptureError(f"--temperature {flags.temperature}: expected 0 or more")
    fields = frozenset(part.strip() for part in flags.fields.split(",") if part.strip())
    unknown = sorted(fields - set(FIELDS))
    if unknown or not fields:
        raise CaptureError(f"--fields {unknown[0] if unknown else ''}: expected some of {', '.join(FIELDS)}")
    if "v" in fields and "vnorm" in fields:
        raise CaptureError("--fields: v and vnorm exclude each other")
    if flags.verify and not {"k", "q"} <= fields:
        raise CaptureError("--verify: needs k and q among --fields")
    folder = os.path.dirname(os.path.abspath(flags.out))
    if not os.path.isdir(folder):
        raise CaptureError(f"--out {flags.out}: no such folder {folder}")
    try:
        torch.empty(1, device=flags.device)
    except Exception as error:
        raise CaptureError(f"--device {flags.device}: {str(error).splitlines()[0]}") from error
    return fields


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


def _metadata(
    flags: argparse.Namespace, source: Source, config, recorder: Recorder, prompt: Prompt,  # noqa: ANN001
    generation: Generation, text: str, architecture: str,
) -> dict:
    # A hub name is kept whole; of a path only the last part means anything elsewhere.
    local = source.gguf is not None or os.path.isdir(source.where)
    origin = source.gguf or (os.path.basename(source.where.rstrip("/")) if local else source.where)
    name = flags.name or os.path.basename(origin).removesuffix(".gguf").lower()
    model = describe_model(config, recorder, name, flags.source or origin, architecture)
    provenance = {
        "prompt": flags.task or os.path.basename(flags.prompt_file),
        "promptSource": flags.prompt_source,
        "promptLicence": flags.prompt_licence,
        "modelLicence": flags.model_licence,
        "tool": TOOL,
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers", "safetensors", "gguf")},
        "device": flags.device,
        "dtype": str(DTYPES[flags.dtype]).removeprefix("torch."),
        "createdFrom": origin,
        "sampling": {"temperature": 0.0 if flags.greedy else flags.temperature, "seed": flags.seed,
                     "ignoreStop": flags.ignore_stop},
    }
    if recorder.extras:
        provenance["softmaxExtras"] = recorder.extras
    answer = {} if prompt.answer is None else {"answer": prompt.answer, "answered": prompt.answer in text}
    if prompt.evidence:
        answer["evidenceTokens"] = [list(passage) for passage in prompt.evidence]
    return {
        "model": model,
        "rope": describe_rope(config, model["headDim"]),
        "promptTokens": len(prompt.tokens),
        "steps": len(generation.tokens),
        "promptWindowTokens": recorder.plan.window,
        "provenance": provenance,
        "text": {"question": prompt.question, "generated": text, **answer},
    }


def _say(flags: argparse.Namespace, metadata: dict, prompt: Prompt, text: str) -> None:
    lines = [
        f"{flags.out}: {metadata['promptTokens']} prompt tokens, {metadata['steps']} steps, "
        f"layers {','.join(map(str, metadata['recordedLayers']))}, {os.path.getsize(flags.out)} bytes",
        f"generated: {text!r}",
    ]
    if prompt.answer is not None:
        lines.append(f"expected answer: {prompt.answer!r}, {'found' if prompt.answer in text else 'not found'}")
    extras = metadata["provenance"].get("softmaxExtras")
    if extras:
        lines.append(f"note: softmax(q·k) alone is not this model's attention, which adds {', '.join(extras)}")
    for name, account in metadata.get("quantisation", {}).items():
        lines.append(f"{name}: int8 {account['scale']}, relative RMS error {account['relativeRmsError']}")
    if prompt.whole_text:
        lines.append(f"note: the whole of {flags.text} is in the prompt; a longer text would fill more of the context")
    if flags.steps != metadata["steps"]:
        lines.append(f"the answer ended after {metadata['steps']} of {flags.steps} steps")
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
