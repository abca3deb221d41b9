"""The metadata of a trace, from what was asked for and what was run; and the lines that tell the user of it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os

from . import TOOL
from .load import Source, describe_model, describe_rope
from .prompts import Prompt
from .recorder import Recorder

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def describe(
    flags: argparse.Namespace, source: Source, config, recorder: Recorder, prompt: Prompt,  # noqa: ANN001
    architecture: str, steps: int, text: str,
) -> dict:
    """`steps` decode steps were run and said `text`. Without `format` and `quantisation`, which packing adds."""
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
        "dtype": DTYPES[flags.dtype],
        "createdFrom": origin,
        "sampling": {"temperature": 0.0 if flags.greedy else flags.temperature, "seed": flags.seed,
                     "ignoreStop": flags.ignore_stop},
    }
    if recorder.extras:
        provenance["softmaxExtras"] = recorder.extras
    answer = {} if prompt.answer is None else {"answer": prompt.answer, "answered": prompt.answer in text}
    if prompt.forced:
        provenance["answer"] = "read, not generated"
    if prompt.evidence:
        answer["evidenceTokens"] = [list(passage) for passage in prompt.evidence]
    return {
        "model": model,
        "rope": describe_rope(config, model["headDim"]),
        "promptTokens": len(prompt.tokens),
        "steps": steps,
        "promptWindowTokens": recorder.plan.window,
        "recordedLayers": sorted(recorder.recorded),
        "fields": recorder.names(),
        "provenance": provenance,
        "text": {"question": prompt.question, "generated": text, **answer},
    }


def summary(flags: argparse.Namespace, metadata: dict, prompt: Prompt) -> list[str]:
    text = metadata["text"]["generated"]
    lines = [
        f"{flags.out}: {metadata['promptTokens']} prompt tokens, {metadata['steps']} steps, "
        f"layers {','.join(map(str, metadata['recordedLayers']))}, {os.path.getsize(flags.out)} bytes",
        f"{'read' if prompt.forced else 'generated'}: {text[:2000]!r}",
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
    return lines
