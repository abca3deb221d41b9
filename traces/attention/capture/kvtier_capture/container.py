"""A safetensors file that is filled in place: allocated first, written by rows in any order, sealed last.

Promise: until `seal`, the length at its start is zero, which no safetensors reader accepts. Writes go through pwrite, not
through a memory map, so that a full disk is an error with a name and not a killed process.
Source of the format: https://github.com/huggingface/safetensors ("Format").
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from dataclasses import dataclass

import torch

from .errors import CaptureStopped

DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int8: "I8"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PREALLOCATION = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


@dataclass(frozen=True)
class Slot:
    dtype: torch.dtype
    shape: tuple[int, ...]
    first: int
    """Bytes from the start of the data."""

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Container:
    """`room` bytes are kept for the header; the metadata is known only at the end, and must fit (`fits`)."""

    def __init__(self, path: str, room: int, *, keep: bool = False) -> None:
        self.path = path
        self.slots: dict[str, Slot] = {}
        self._room = -(-room // 8) * 8
        self._end = 0
        with said(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | (0 if keep else os.O_TRUNC), 0o666)

    @property
    def size_bytes(self) -> int:
        return 8 + self._room + self._end

    def reserve(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        """Place a tensor after the others. Wider types go first: then each is aligned to its own size."""
        self.slots[name] = slot = Slot(dtype, tuple(shape), self._end)
        self._end += slot.size_bytes

    def allocate(self) -> None:
        """Take the disk space of all slots now, before hours of work depend on it."""
        with said(self.path):
            try:
                os.posix_fallocate(self._file, 0, self.size_bytes)
            except OSError as error:
                if error.errno not in _NO_PREALLOCATION:
                    raise
                os.ftruncate(self._file, self.size_bytes)

    def write(self, name: str, block: torch.Tensor, axis: int = 0, first: int = 0) -> None:
        """Put `block` at rows first .. of `axis` (0 or 1) of the tensor. block is of the slot's type and rank."""
        slot = self.slots[name]
        if block.dtype != slot.dtype or block.dim() != len(slot.shape):
            raise ValueError(f"{name}: {block.dtype} of rank {block.dim()}, expected {slot.dtype} {slot.shape}")
        block = block.contiguous()
        row = math.prod(slot.shape[axis + 1 :]) * slot.dtype.itemsize
        base = 8 + self._room + slot.first + first * row
        if axis == 0:
            self._put(block, base)
            return
        for outer in range(slot.shape[0]):
            self._put(block[outer], base + outer * slot.shape[1] * row)

    def read(self, name: str) -> torch.Tensor:
        slot = self.slots[name]
        data, at = bytearray(slot.size_bytes), 0
        view = memoryview(data)
        while at < len(data):
            got = os.preadv(self._file, [view[at:]], 8 + self._room + slot.first + at)
            if got == 0:
                raise CaptureStopped(f"{self.path}: ends inside {name}: remove it and capture again")
            at += got
        return torch.frombuffer(data, dtype=slot.dtype).reshape(slot.shape) if data else torch.empty(
            slot.shape, dtype=slot.dtype)

    def flush(self) -> None:
        with said(self.path):
            os.fsync(self._file)

    def fits(self, metadata: dict) -> bool:
        return len(self._header(metadata)) <= self._room

    def seal(self, metadata: dict) -> None:
        """Write the header; from here on the file is a trace. Data first: no header ever speaks of what is not there."""
        header = self._header(metadata)
        if len(header) > self._room:
            raise ValueError(f"{self.path}: a header of {len(header)} bytes in a room of {self._room}")
        with said(self.path):
            _pwrite(self._file, bytes(8), 0)
            os.fsync(self._file)
            _pwrite(self._file, header.ljust(self._room), 8)
            os.fsync(self._file)
            _pwrite(self._file, self._room.to_bytes(8, "little"), 0)
            os.fsync(self._file)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _put(self, block: torch.Tensor, at: int) -> None:
        if block.numel():
            with said(self.path):
                _pwrite(self._file, memoryview(block.flatten().view(torch.uint8).numpy()), at)

    def _header(self, metadata: dict) -> bytes:
        text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
        entries: dict[str, object] = {"__metadata__": {"kvtier": text}}
        for name, slot in self.slots.items():
            offsets = [slot.first, slot.first + slot.size_bytes]
            entries[name] = {"dtype": DTYPES[slot.dtype], "shape": list(slot.shape), "data_offsets": offsets}
        return json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()


@contextlib.contextmanager
def said(path: str):  # noqa: ANN201 - a context manager
    """Turns an operating system's error into one line; a full disk is not the user's mistake and can be resumed."""
    try:
        yield
    except OSError as error:
        raise CaptureStopped(f"{path}: {error.strerror or error}{_remedy(error)}") from error


def _remedy(error: OSError) -> str:
    return ": free some space and run the same command again, it goes on where it stopped" if error.errno in _FULL else ""


def _pwrite(file: int, data: bytes | memoryview, at: int) -> None:
    view = memoryview(data)
    while len(view):
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written
