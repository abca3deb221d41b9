"""What an interrupted capture needs to go on: tokens, logits, sums and the model's cache, beside the partial file.

Promise: the file is replaced as a whole; it never claims rows that are not on disk; it is refused, with the difference
named, by a run with other flags. It holds tensors and plain values only, so that loading it runs no code.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, fields

import torch

from .container import said
from .errors import CaptureError

# Writing the cache may take this share of the time at most, however short the interval (unless it is zero).
_SHARE = 0.05
_PLAIN = (int, float, bool, str, type(None))


@dataclass
class Progress:
    """A run between two forward passes."""

    fed: int = 0
    """Tokens of prompt and answer that went through the model."""
    tokens: list[int] = field(default_factory=list)
    logits: list[float] = field(default_factory=list)
    last: torch.Tensor | None = None
    """Logits after the last token fed, float32 [vocab]."""
    random: torch.Tensor | None = None
    """State of the sampling generator."""
    sums: dict[int, torch.Tensor] = field(default_factory=dict)
    cache: dict | None = None
    finished: bool = False


class Checkpoint:
    def __init__(self, path: str, signature: dict, every_s: float) -> None:
        self.path = path
        self._signature = signature
        self._every_s = every_s
        self._last_s = time.monotonic()
        self._cost_s = 0.0

    def load(self) -> Progress | None:
        """The progress on disk, or None. CaptureError where it belongs to another run."""
        if not os.path.exists(self.path):
            return None
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            begun, progress = state["signature"], Progress(**state["progress"])
        except Exception as error:
            raise CaptureError(f"{self.path}: not the state of a capture: remove it, or say --restart") from error
        other = [name for name, value in self._signature.items() if begun.get(name) != value]
        if other:
            raise CaptureError(
                f"{self.path}: an unfinished capture with another {', '.join(other)}: "
                "finish it with its own flags, or say --restart"
            )
        return progress

    def due(self) -> bool:
        if self._every_s == 0:
            return True
        return time.monotonic() - self._last_s >= max(self._every_s, self._cost_s / _SHARE)

    def save(self, progress: Progress) -> None:
        begin = time.monotonic()
        state = {"signature": self._signature, "progress": {f.name: getattr(progress, f.name) for f in fields(progress)}}
        fresh = f"{self.path}.new"
        try:
            with said(self.path):
                try:
                    with open(fresh, "wb") as file:
                        torch.save(state, file)
                        file.flush()
                        os.fsync(file.fileno())
                except RuntimeError as error:
                    # torch wraps a failed write; the cause is what the operating system said.
                    raise _system_error(error) from error
                os.replace(fresh, self.path)
        except BaseException:
            remove(fresh)
            raise
        self._last_s = time.monotonic()
        self._cost_s = self._last_s - begin

    def remove(self) -> None:
        remove(self.path)
        remove(f"{self.path}.new")


def remove(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


def _system_error(error: BaseException) -> OSError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return OSError(0, str(error).splitlines()[0])


def freeze_cache(cache) -> dict | None:  # noqa: ANN001 - any cache of transformers
    """The cache as plain values, whatever its kind (full, sliding, linear attention); None where it has no layers."""
    layers = getattr(cache, "layers", None)
    if layers is None:
        return None
    return {"own": _plain(vars(cache)), "layers": [_plain(vars(layer)) for layer in layers]}


def thaw_cache(frozen: dict, cache, device: torch.device):  # noqa: ANN001, ANN201
    """Pour a frozen cache into `cache`, a used one of the same model."""
    for target, values in [(cache, frozen["own"]), *zip(cache.layers, frozen["layers"], strict=True)]:
        for name, value in values.items():
            setattr(target, name, _placed(value, device))
    return cache


def _plain(values: dict) -> dict:
    kept = {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            # A view would be saved with all of the storage that it looks at.
            kept[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        elif isinstance(value, dict):
            kept[name] = _plain(value)
        elif isinstance(value, _PLAIN):
            kept[name] = value
    return kept


def _placed(value, device: torch.device):  # noqa: ANN001, ANN202
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return {k: _placed(v, device) for k, v in value.items()} if isinstance(value, dict) else value
