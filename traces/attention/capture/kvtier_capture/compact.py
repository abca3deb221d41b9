"""Takes some layers of a capture into a smaller file, as int8: `python -m kvtier_capture.compact IN --layers 4,14 …`.

Promise: what is kept means the same as in the source; tensors that are int8 already are copied bit by bit.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

import torch

from .checkpoint import remove
from .container import Container
from .errors import CaptureError
from .quantise import AXES
from .recorder import HALF_MAX
from .trace_file import TraceFile, header_room, pack, publish


def compact(source: str, target: str, layers: list[int] | None, steps: int | None, int8: bool) -> dict:
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
    metadata = {**trace.metadata, "steps": kept, "recordedLayers": chosen}
    if kept < total:
        metadata["text"] = {**metadata.get("text", {}), "generatedSteps": total}
    partial = f"{target}.partial"
    try:
        container, metadata = (_copy if "quantisation" in metadata else _encode)(trace, partial, metadata, int8)
        with contextlib.closing(container):
            container.seal(metadata)
        publish(partial, target)
    finally:
        remove(partial)
    return metadata


def _encode(trace: TraceFile, partial: str, metadata: dict, int8: bool) -> tuple[Container, dict]:
    def read(name: str, layer: int) -> torch.Tensor:
        x = _cut(name, trace.tensor(name, layer), metadata)
        fits = name != "vnorm" and float(x.abs().max()) <= HALF_MAX
        return x.half() if fits else x

    return pack(partial, read, metadata, tuple(AXES) if int8 else ())


def _copy(trace: TraceFile, partial: str, metadata: dict, _int8: bool) -> tuple[Container, dict]:
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
    p.add_argument("--no-int8", action="store_true", help="f16 instead of int8 (what is int8 already stays so)")
    p.add_argument("--out", required=True)
    flags = p.parse_args(argv)
    try:
        layers = None if flags.layers is None else [int(part) for part in flags.layers.split(",")]
        metadata = compact(flags.source, flags.out, layers, flags.steps, not flags.no_int8)
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
