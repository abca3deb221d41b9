"""Writes and reads back `kvtier.attention/1`: one safetensors file, metadata as JSON under the key `kvtier`.

Promise: a file appears under its name only when it is complete; tensors and metadata agree.
"""

from __future__ import annotations

import json
import os

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .errors import CaptureError
from .quantise import Account, quantise_best, restore
from .recorder import FIELDS

FORMAT = "kvtier.attention/1"
HALF_MAX = 65504.0


def build(
    tables: dict[int, dict[str, torch.Tensor]], metadata: dict, *, axes: tuple[str, ...], dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors of the file by name, and the metadata completed with fields, layers and quantisation.

    axes: along which int8 may have its scales (quantise.AXES), the better one is taken; none of them = no int8.
    """
    layers = sorted(tables)
    present = [name for name in FIELDS if all(name in tables[layer] for layer in layers)]
    tensors: dict[str, torch.Tensor] = {}
    account: dict[str, dict] = {}
    for name in present:
        if axes and name in ("k", "kpre", "v"):
            sums = Account()
            for layer in layers:
                queries = tables[layer].get("q") if name == "k" else None
                part = quantise_best(tables[layer][name], axes, sums, queries)
                tensors[f"{name}.{layer}"] = part.codes
                tensors[f"{name}.{layer}.scale"] = part.scale
                tensors[f"{name}.{layer}.offset"] = part.offset
            account[name] = sums.metadata()
            continue
        for layer in layers:
            tensors[f"{name}.{layer}"] = _stored(f"{name}.{layer}", tables[layer][name], dtype)
    complete = {**metadata, "recordedLayers": layers, "fields": present}
    if account:
        complete["quantisation"] = account
    return tensors, complete


def write(path: str, tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    # No random part in the name: a second run that was cut off leaves one file to remove, not many.
    partial = f"{path}.partial"
    try:
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        text = json.dumps({"format": FORMAT, **metadata}, ensure_ascii=False, separators=(",", ":"))
        save_file(contiguous, partial, metadata={"kvtier": text})
        os.chmod(partial, 0o666 & ~_umask())  # safetensors makes it readable by its owner alone
        os.replace(partial, path)
    except OSError as error:
        raise CaptureError(f"--out {path}: {error.strerror or error}") from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


class TraceFile:
    """A written trace, de-quantised on reading: what any consumer of the format sees."""

    def __init__(self, path: str) -> None:
        self._file = safe_open(path, framework="pt")
        text = (self._file.metadata() or {}).get("kvtier")
        if text is None:
            raise CaptureError(f"{path}: no `kvtier` metadata: not an attention trace")
        self.metadata: dict = json.loads(text)
        self.names = set(self._file.keys())

    def tensor(self, field: str, layer: int) -> torch.Tensor:
        """float32, in the format's axis order."""
        name = f"{field}.{layer}"
        x = self._file.get_tensor(name)
        if x.dtype != torch.int8:
            return x.float()
        offset = self._file.get_tensor(f"{name}.offset") if f"{name}.offset" in self.names else None
        return restore(x, self._file.get_tensor(f"{name}.scale"), offset)

    def probabilities(self, layer: int, step: int) -> torch.Tensor:
        """softmax(q·k / sqrt(headDim)) of one decode step: [heads, promptTokens + step + 1]."""
        return self.probabilities_of(layer, step, self.tensor("q", layer)[step], self.tensor("k", layer))

    def probabilities_of(self, layer: int, step: int, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """As `probabilities`, with the step's query [heads, d] and the layer's keys already read."""
        end = self.metadata["promptTokens"] + step + 1
        heads, dim = query.shape
        grouped = query.reshape(keys.shape[0], heads // keys.shape[0], dim)
        scores = (grouped @ keys[:, :end].transpose(1, 2)).reshape(heads, end) * dim**-0.5
        if layer in self.metadata["model"]["slidingLayers"]:
            scores[:, : max(0, end - self.metadata["model"]["slidingWindowTokens"])] = float("-inf")
        return torch.softmax(scores, dim=-1)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _stored(name: str, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if name.startswith(("prefillMass.", "vnorm.")):
        # Sums and norms are f16 or f32: bf16 keeps two digits, and a sink of a long prompt outgrows f16.
        fits = dtype == torch.float16 and float(x.max()) <= HALF_MAX
        return x.half() if fits else x.float()
    if dtype == torch.float16 and float(x.abs().max()) > HALF_MAX:
        raise CaptureError(f"--store f16: {name} has values beyond 65504; use --store bf16 or f32")
    return x.to(dtype)
