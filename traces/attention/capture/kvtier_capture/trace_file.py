"""Packs recorded tensors into `kvtier.attention/1` and reads them back: one safetensors file, metadata under `kvtier`.

Promise: one layer's tensor is in memory at a time; tensors and metadata agree; nothing is a trace before `seal`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import torch
from safetensors import safe_open

from .container import Container, said
from .errors import CaptureError
from .quantise import Account, Quantised, quantise_best, quantise_queries, restore

FORMAT = "kvtier.attention/1"
CODED = ("k", "kpre", "v")
QUERIES = ("q", "qprompt")
# For what becomes known after the header's room is set: verification, errors of int8.
SPARE_BYTES = 8192

Read = Callable[[str, int], torch.Tensor]
"""(field, layer) -> the tensor as the file is to hold it, before int8."""


def header_room(metadata: dict, tensors: int) -> int:
    """Bytes for a header with this metadata and so many tensors; JSON inside JSON escapes quotes, hence the double."""
    return 2 * len(json.dumps(metadata, ensure_ascii=False).encode()) + 160 * tensors + SPARE_BYTES


def pack(
    path: str, read: Read, metadata: dict, axes: tuple[str, ...], code_queries: bool = False
) -> tuple[Container, dict]:
    """Write `recordedLayers` and `fields` of the metadata to `path`; returns it unsealed, and the metadata completed.

    axes: along which int8 may have its scales (quantise.AXES), the better one is taken; none of them = no int8.
    code_queries: int8 for queries too.
    """
    pairs = [(name, layer) for name in metadata["fields"] for layer in metadata["recordedLayers"]]
    fields = (*(CODED if axes else ()), *(QUERIES if code_queries else ()))
    coded = [pair for pair in pairs if pair[0] in fields]
    plain = [pair for pair in pairs if pair not in coded]
    target = Container(path, header_room(metadata, 3 * len(pairs)))
    # Widest types first, so that each is aligned; scales and offsets come last, as only the codes tell their shape.
    width = {pair: read(*pair).dtype.itemsize for pair in plain}
    for name, layer in sorted(plain, key=lambda pair: -width[pair]):
        tensor = read(name, layer)
        target.reserve(f"{name}.{layer}", tensor.dtype, tuple(tensor.shape))
        target.write(f"{name}.{layer}", tensor)
    companions: dict[str, torch.Tensor] = {}
    accounts: dict[str, Account] = {}
    for name, layer in coded:
        part = _coded(read, name, layer, metadata, axes, accounts.setdefault(name, Account()))
        target.reserve(f"{name}.{layer}", torch.int8, tuple(part.codes.shape))
        target.write(f"{name}.{layer}", part.codes)
        companions |= _companions(f"{name}.{layer}", part)
    for name, tensor in sorted(companions.items(), key=lambda item: -item[1].dtype.itemsize):
        target.reserve(name, tensor.dtype, tuple(tensor.shape))
        target.write(name, tensor)
    complete = {"format": FORMAT, **metadata}
    if accounts:
        complete["quantisation"] = {name: account.metadata() for name, account in accounts.items()}
    return target, complete


def _coded(read: Read, name: str, layer: int, metadata: dict, axes: tuple[str, ...], account: Account) -> Quantised:
    x = read(name, layer)
    if name in QUERIES:
        part = quantise_queries(x)
        account.add(x, part, None)
        return part
    queries = read("q", layer) if name == "k" and "q" in metadata["fields"] else None
    return quantise_best(x, axes, account, queries)


def _companions(name: str, part: Quantised) -> dict[str, torch.Tensor]:
    offset = {} if part.offset is None else {f"{name}.offset": part.offset}
    return {f"{name}.scale": part.scale, **offset}


def publish(path: str, target: str) -> None:
    """Give a sealed file its name."""
    with said(target):
        os.replace(path, target)


class TraceFile:
    """A written trace, de-quantised on reading: what any consumer of the format sees."""

    def __init__(self, path: str) -> None:
        self._file = safe_open(path, framework="pt")
        text = (self._file.metadata() or {}).get("kvtier")
        if text is None:
            raise CaptureError(f"{path}: no `kvtier` metadata: not an attention trace")
        self.metadata: dict = json.loads(text)
        self.names = set(self._file.keys())

    def raw(self, name: str) -> torch.Tensor:
        """As stored."""
        return self._file.get_tensor(name)

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
