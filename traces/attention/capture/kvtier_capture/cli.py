"""The command line: flags in, one trace file out.

Exit 0 done; 1 stopped (full disk, interrupt, failed verification), to be resumed; 2 bad input or unsupported model.
"""

from __future__ import annotations

import argparse
import os
import sys

import torch
import transformers

from .errors import CaptureError
from .prompts import TASKS
from .recorder import FIELDS
from .session import DTYPES, QUANTISE, capture

STEPS, LONG_STEPS = 64, 1024


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="kvtier-capture", description=__doc__.split("\n")[0])
    model = p.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="Hugging Face name or a local folder")
    model.add_argument("--gguf", help="a GGUF file (its weights are de-quantised)")
    prompt = p.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt-file", help="text, or a .json list of {role, content} messages")
    prompt.add_argument("--task", choices=TASKS, help="make a long-context prompt whose answer lies far back")
    p.add_argument("--text", help="the book (UTF-8) that a task's prompt is made from")
    p.add_argument("--answer-text", help="a text (UTF-8) that the decode steps read as if it had been generated: its "
                   "first --steps tokens, some hundred a pass")
    p.add_argument("--depth", type=float, default=0.1, help="where the fact lies, 0 = start, 1 = end (default 0.1)")
    p.add_argument("--chat", action=argparse.BooleanOptionalAction, help="use the chat template (default: if any)")
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
    p.add_argument("--checkpoint-seconds", type=float, default=60, help="how often an interrupted capture can go on "
                   "from (default 60, and a twentieth of the time at most; 0 = after every pass)")
    p.add_argument("--restart", action="store_true", help="begin anew, whatever an interrupted capture has left")
    p.add_argument("--out", required=True, help="the .safetensors file to write")
    return p


def main(argv: list[str] | None = None) -> int:
    flags = parser().parse_args(argv)
    transformers.logging.set_verbosity_error()
    if flags.quiet or not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    try:
        capture(flags, _check(flags))
    except CaptureError as error:
        print(f"kvtier-capture: {error}", file=sys.stderr)
        return error.exit_code
    return 0


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
    if os.path.isdir(flags.out):
        raise CaptureError(f"--out {flags.out}: is a folder, expected the file to write")
    if not flags.checkpoint_seconds >= 0:
        raise CaptureError(f"--checkpoint-seconds {flags.checkpoint_seconds}: expected 0 or more")
    try:
        torch.empty(1, device=flags.device)
    except Exception as error:
        raise CaptureError(f"--device {flags.device}: {str(error).splitlines()[0]}") from error
    return fields


if __name__ == "__main__":
    sys.exit(main())
