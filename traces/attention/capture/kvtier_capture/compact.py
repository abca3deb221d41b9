"""Takes some layers or KV heads of a capture into a smaller file, as int8: `python -m kvtier_capture.compact IN …`.

Promise: what is kept means the same as in the source; tensors that are int8 already are copied bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import dataclass

import torch

from .checkpoint import remove
from .container import Container
from .errors import CaptureError
from .quantise import AXES
from .recorder import HALF_MAX
from .trace_file import TraceFile, header_room, pack, publish


@dataclass(frozen=True)
class Coding:
    int8: bool = True
    queries: bool = False
    """int8 for queries too."""
    kv_head: int | None = None
    """The one KV head that is kept, with its query heads; None = all."""


def compact(
    source: str, target: str, layers: list[int] | None, steps: int | None, coding: Coding = Coding()
) -> dict:
    """Returns the metadata written. `layers` None = all; `steps` None = all, else the first so many."""
    trace = TraceFile(source)
    recorded, total = trace.metadata["recordedLayers"], trace.metadata["steps"]
    chosen = recorded if layers is None else sorted(set(layers))
    missing = [layer for layer in chosen if layer not in recorded]
    if missing:
        raise CaptureError(f"--layers {missing[0]}: {source} holds layers {','.join(map(str, recorded))}")
    kept = total if steps is None else steps
    if not 1 <= kept <= total:
        raise CaptureError(f"--steps {kept}: {source} holds 1 to {total}")
    if "quantisation" in trace.metadata and (coding.queries or coding.kv_head is not None):
        raise CaptureError(f"{source}: expected no int8 in it (--kv-head, --int8-queries)")
    metadata = {**trace.metadata, "steps": kept, "recordedLayers": chosen, **_one_head(trace.metadata, coding.kv_head)}
    if kept < total:
        metadata["text"] = {**metadata.get("text", {}), "generatedSteps": total}
    partial = f"{target}.partial"
    try:
        container, metadata = (_copy if "quantisation" in metadata else _encode)(trace, partial, metadata, coding)
        with contextlib.closing(container):
            container.seal(metadata)
        publish(partial, target)
    finally:
        remove(partial)
    return metadata


def _one_head(metadata: dict, kv_head: int | None) -> dict:
    """A model of one KV head and its query heads, named for it."""
    if kv_head is None:
        return {}
    model = metadata["model"]
    if not 0 <= kv_head < model["kvHeads"]:
        raise CaptureError(f"--kv-head {kv_head}: the model has KV heads 0 to {model['kvHeads'] - 1}")
    group = model["heads"] // model["kvHeads"]
    return {"model": {**model, "name": f"{model['name']}-kv{kv_head}", "heads": group, "kvHeads": 1}}


def _of_head(name: str, x: torch.Tensor, model: dict, kv_head: int) -> torch.Tensor:
    """The rows of one KV head or of its query heads; `model` is that of all of them."""
    group = model["heads"] // model["kvHeads"]
    if name in ("q", "qprompt"):
        return x[:, kv_head * group : (kv_head + 1) * group]
    if name == "prefillMass":
        return x[kv_head * group : (kv_head + 1) * group]
    return x[kv_head : kv_head + 1]


def _encode(trace: TraceFile, partial: str, metadata: dict, coding: Coding) -> tuple[Container, dict]:
    def read(name: str, layer: int) -> torch.Tensor:
        x = _cut(name, trace.tensor(name, layer), metadata)
        if coding.kv_head is not None:
            x = _of_head(name, x, trace.metadata["model"], coding.kv_head)
        fits = name != "vnorm" and float(x.abs().max()) <= HALF_MAX
        return x.half() if fits else x

    return pack(partial, read, metadata, tuple(AXES) if coding.int8 else (), coding.queries)


def _copy(trace: TraceFile, partial: str, metadata: dict, _coding: Coding) -> tuple[Container, dict]:
    """int8 stays as it is: coding the decoded values anew would add a second error to the first."""
    wanted = {f"{name}.{layer}" for name in metadata["fields"] for layer in metadata["recordedLayers"]}
    wanted |= {f"{name}{end}" for name in wanted for end in (".scale", ".offset")} & trace.names
    tensors = {name: _cut(name, trace.raw(name), metadata) for name in sorted(wanted)}
    container = Container(partial, header_room(metadata, len(tensors)))
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize):
        container.reserve(name, tensor.dtype, tuple(tensor.shape))
        container.write(name, tensor)
    return container, metadata


def _cut(name: str, x: torch.Tensor, metadata: dict) -> torch.Tensor:
    """The first `steps` steps of a tensor whose name begins with its field."""
    field, tokens = name.split(".")[0], metadata["promptTokens"] + metadata["steps"]
    if field == "q":
        return x[: metadata["steps"]]
    per_channel = name.endswith(".offset") or (name.endswith(".scale") and x.shape[1] == metadata["model"]["headDim"])
    return x if per_channel or field in ("qprompt", "prefillMass") else x[:, :tokens]


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="kvtier_capture.compact", description=__doc__.split("\n")[0])
    p.add_argument("source", help="a kvtier.attention/1 file")
    p.add_argument("--layers", help="a list such as 4,14,24 (default: all that it holds)")
    p.add_argument("--steps", type=int, help="keep the first so many decode steps (default: all)")
    p.add_argument("--kv-head", type=int, help="keep one KV head with its query heads (default: all)")
    p.add_argument("--int8-queries", action="store_true", help="int8 for queries too, with a scale per step and head")
    p.add_argument("--no-int8", action="store_true", help="f16 instead of int8 (what is int8 already stays so)")
    p.add_argument("--out", required=True)
    flags = p.parse_args(argv)
    try:
        layers = None if flags.layers is None else [int(part) for part in flags.layers.split(",")]
        coding = Coding(not flags.no_int8, flags.int8_queries, flags.kv_head)
        metadata = compact(flags.source, flags.out, layers, flags.steps, coding)
    except ValueError:
        print(f"kvtier_capture.compact: --layers {flags.layers}: expected numbers such as 4,14,24", file=sys.stderr)
        return 2
    except CaptureError as error:
        print(f"kvtier_capture.compact: {error}", file=sys.stderr)
        return error.exit_code
    for name, account in metadata.get("quantisation", {}).items():
        print(f"{name}: {account}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
