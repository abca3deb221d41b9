"""What the hook records: rows of keys, values and queries go to the file as they come, column sums are kept.

Promise: memory does not grow with the recorded tensors; rows come in position order and may come twice (a resumed run
writes the same again); what the file cannot hold is an error before the prompt is read (`survey`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from .container import Container
from .errors import CaptureError

FIELDS = ("k", "kpre", "v", "vnorm", "q", "qprompt", "prefillMass")
HALF_MAX = 65504


@dataclass
class Plan:
    """What to record. `prompt_tokens + steps` is the token axis; `layers` None = every layer that attends."""

    fields: frozenset[str]
    prompt_tokens: int
    steps: int
    window: int
    layers: frozenset[int] | None
    dtype: torch.dtype

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.steps

    def dtype_of(self, name: str) -> torch.dtype:
        """Norms and sums are f16 or f32: bf16 keeps two digits. A column sum is at most the number of rows."""
        if name == "prefillMass":
            fits = self.dtype == torch.float16 and self.prompt_tokens <= HALF_MAX
            return torch.float16 if fits else torch.float32
        return torch.float32 if name == "vnorm" else self.dtype

    def shape_of(self, name: str, heads: int, kv_heads: int, dim: int, steps: int) -> tuple[int, ...]:
        """With `steps` decode steps, which may be fewer than planned."""
        tokens = self.prompt_tokens + steps
        shapes = {
            "q": (steps, heads, dim), "qprompt": (self.window, heads, dim), "vnorm": (kv_heads, tokens),
            "prefillMass": (heads, self.prompt_tokens),
        }
        return shapes.get(name, (kv_heads, tokens, dim))


@dataclass
class Recorder:
    plan: Plan
    store: Container | None = None
    """Where rows go; None during the survey."""
    shape: tuple[int, int, int] | None = None
    """(heads, kvHeads, headDim), the same in every recorded layer."""
    seen_layers: set[int] = field(default_factory=set)
    recorded: set[int] = field(default_factory=set)
    windows: dict[int, int] = field(default_factory=dict)
    """layer -> sliding window in tokens, as the model passed it."""
    extras: dict[str, float | bool] = field(default_factory=dict)
    """Parts of the model's softmax that q and k alone do not say (soft-capping, sink logits)."""
    position: int = 0
    """Absolute position of the first token of the running forward pass."""
    pending_kpre: torch.Tensor | None = None
    sums: dict[int, torch.Tensor] = field(default_factory=dict)
    """layer -> column sums so far, float32 [heads, promptTokens]: far less than the model's own cache."""

    def wants(self, layer: int) -> bool:
        return self.plan.layers is None or layer in self.plan.layers

    def check_survey(self) -> None:
        """After one token has gone through the model: is there what was asked for?"""
        if not self.seen_layers:
            raise CaptureError("the model does not use transformers' common attention interface: nothing to record")
        missing = sorted(set(self.plan.layers or ()) - self.recorded)
        if missing:
            raise CaptureError(f"--layers: layer {missing[0]} of this model computes no softmax attention")

    def names(self) -> list[str]:
        return [name for name in FIELDS if name in self.plan.fields]

    def reserve(self, store: Container) -> None:
        """Place every tensor of the planned capture in `store`, widest types first."""
        assert self.shape is not None
        wanted = [(name, layer) for name in self.names() for layer in sorted(self.recorded)]
        for name, layer in sorted(wanted, key=lambda pair: -self.plan.dtype_of(pair[0]).itemsize):
            shape = self.plan.shape_of(name, *self.shape, self.plan.steps)
            store.reserve(f"{name}.{layer}", self.plan.dtype_of(name), shape)
        self.store = store

    def column_sums(self, layer: int, heads: int, tokens: int, rows: int, device: torch.device) -> torch.Tensor | None:
        """A zeroed [heads, tokens] block to add this pass's probabilities to, or None where none are wanted."""
        in_prompt = self.position + rows <= self.plan.prompt_tokens
        if "prefillMass" not in self.plan.fields or not in_prompt or self.store is None or not self.wants(layer):
            return None
        return torch.zeros(heads, tokens, dtype=torch.float32, device=device)

    def add_column_sums(self, layer: int, sums: torch.Tensor, rows: int) -> None:
        # A sliding layer's cache has dropped the oldest keys, so the block ends at the pass's last position.
        end = self.position + rows
        if layer not in self.sums:
            self.sums[layer] = torch.zeros(sums.shape[0], self.plan.prompt_tokens)
        self.sums[layer][:, end - sums.shape[1] : end] += sums.cpu()

    def end_of_prompt(self) -> None:
        for layer, sums in self.sums.items():
            self._store("prefillMass", layer, sums, 0, 0)
        self.sums = {}

    def observe(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """query [heads, rows, d]; key, value [kvHeads, >= rows, d]: only the last `rows` of the keys are new."""
        if not self.wants(layer):
            return
        rows = query.shape[1]
        self._check_shape(layer, query, key)
        self.recorded.add(layer)
        first, last = self.position, self.position + rows
        self._store("k", layer, key[:, -rows:], 1, first)
        if "kpre" in self.plan.fields:
            self._store("kpre", layer, self._take_kpre(layer, key[:, -rows:]), 1, first)
        if "v" in self.plan.fields:
            if value.shape[-1] != key.shape[-1]:
                raise CaptureError(
                    f"layer {layer}: values have {value.shape[-1]} dimensions, keys {key.shape[-1]}; "
                    "the format holds values of the keys' size: leave v out of --fields (vnorm works)"
                )
            self._store("v", layer, value[:, -rows:], 1, first)
        if "vnorm" in self.plan.fields:
            self._store("vnorm", layer, value[:, -rows:].float().norm(dim=-1), 1, first)
        self._store_queries(layer, query.transpose(0, 1), first, last)

    def _check_shape(self, layer: int, query: torch.Tensor, key: torch.Tensor) -> None:
        shape = (query.shape[0], key.shape[0], key.shape[-1])
        if self.shape is None:
            self.shape = shape
        elif self.shape != shape:
            raise CaptureError(
                f"layer {layer}: (heads, kvHeads, headDim) = {shape}, other layers {self.shape}; "
                "one file holds layers of one shape: choose them with --layers"
            )

    def _store_queries(self, layer: int, rows: torch.Tensor, first: int, last: int) -> None:
        prompt, window, count = self.plan.prompt_tokens, self.plan.window, rows.shape[0]
        if last > prompt:
            self._store("q", layer, rows[max(0, prompt - first) :], 0, max(first, prompt) - prompt)
        begin, end = max(first, prompt - window), min(last, prompt)
        if begin < end:
            kept = rows[begin - first : count - (last - end)]
            self._store("qprompt", layer, kept, 0, begin - (prompt - window))

    def _store(self, name: str, layer: int, rows: torch.Tensor, axis: int, first: int) -> None:
        if self.store is None or name not in self.plan.fields:
            return
        stored = rows.to(self.plan.dtype_of(name)).cpu()
        if not bool(torch.isfinite(stored).all()):
            raise CaptureError(_not_finite(f"{name}.{layer}", rows))
        self.store.write(f"{name}.{layer}", stored, axis, first)

    def _take_kpre(self, layer: int, key: torch.Tensor) -> torch.Tensor:
        kpre, self.pending_kpre = self.pending_kpre, None
        if kpre is None or tuple(kpre.shape[1:]) != tuple(key.shape):
            raise CaptureError(f"layer {layer}: keys before RoPE are not visible in this architecture: drop kpre")
        return kpre[0]


def _not_finite(name: str, rows: torch.Tensor) -> str:
    if bool(torch.isfinite(rows).all()):
        return f"--store f16: {name} has values beyond {HALF_MAX}; use --store bf16 or f32"
    return f"{name} is not finite: the model overflows in this --dtype; try f32 or bf16"
