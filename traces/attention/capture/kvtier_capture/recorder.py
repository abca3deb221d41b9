"""What the hook keeps: per recorded layer, growing tables of keys, values and queries, and column sums.

Promise: tables are filled once, in position order; a layer that the model never runs through the common attention
interface, or whose heads differ from the others', is an error with the layer's number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from .errors import CaptureError

FIELDS = ("k", "kpre", "v", "vnorm", "q", "qprompt", "prefillMass")


@dataclass
class Plan:
    """What to record. `prompt_tokens + steps` is the token axis; `layers` None = every layer that attends."""

    fields: frozenset[str]
    prompt_tokens: int
    steps: int
    window: int
    layers: frozenset[int] | None
    dtype: torch.dtype


@dataclass
class Recorder:
    plan: Plan
    tables: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)
    """layer -> field -> tensor in the file's axis order (without int8)."""
    shape: tuple[int, int, int] | None = None
    """(heads, kvHeads, headDim), the same in every recorded layer."""
    seen_layers: set[int] = field(default_factory=set)
    windows: dict[int, int] = field(default_factory=dict)
    """layer -> sliding window in tokens, as the model passed it."""
    extras: dict[str, float | bool] = field(default_factory=dict)
    """Parts of the model's softmax that q and k alone do not say (soft-capping, sink logits)."""
    position: int = 0
    """Absolute position of the first token of the running forward pass."""
    pending_kpre: torch.Tensor | None = None

    def wants(self, layer: int) -> bool:
        return self.plan.layers is None or layer in self.plan.layers

    def column_sums(self, layer: int, heads: int, tokens: int, rows: int, device: torch.device) -> torch.Tensor | None:
        """A zeroed [heads, tokens] block to add this pass's probabilities to, or None where none are wanted."""
        in_prompt = self.position + rows <= self.plan.prompt_tokens
        if "prefillMass" not in self.plan.fields or not in_prompt or not self.wants(layer):
            return None
        return torch.zeros(heads, tokens, dtype=torch.float32, device=device)

    def add_column_sums(self, layer: int, sums: torch.Tensor, rows: int) -> None:
        # A sliding layer's cache has dropped the oldest keys, so the block ends at the pass's last position.
        end = self.position + rows
        table = self._table(layer, "prefillMass", (sums.shape[0], self.plan.prompt_tokens), torch.float32)
        table[:, end - sums.shape[1] : end] += sums.cpu()

    def observe(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """query [heads, rows, d]; key, value [kvHeads, >= rows, d]: only the last `rows` of the keys are new."""
        if not self.wants(layer):
            return
        rows = query.shape[1]
        self._check_shape(layer, query, key)
        first, last = self.position, self.position + rows
        self._put_tokens(layer, "k", key[:, -rows:], first, last)
        if "kpre" in self.plan.fields:
            self._put_tokens(layer, "kpre", self._take_kpre(layer, key[:, -rows:]), first, last)
        if "v" in self.plan.fields:
            if value.shape[-1] != key.shape[-1]:
                raise CaptureError(
                    f"layer {layer}: values have {value.shape[-1]} dimensions, keys {key.shape[-1]}; "
                    "the format holds values of the keys' size: leave v out of --fields (vnorm works)"
                )
            self._put_tokens(layer, "v", value[:, -rows:], first, last)
        if "vnorm" in self.plan.fields:
            norms = value[:, -rows:].float().norm(dim=-1)
            total = self.plan.prompt_tokens + self.plan.steps
            self._table(layer, "vnorm", (norms.shape[0], total), torch.float32)[:, first:last] = norms.cpu()
        self._put_queries(layer, query.transpose(0, 1), first, last)

    def finish(self, steps: int) -> None:
        """Cut the tables to the steps that were really run (an end-of-text token may come early)."""
        if not self.seen_layers:
            raise CaptureError("the model does not use transformers' common attention interface: nothing to record")
        missing = sorted(set(self.plan.layers or ()) - set(self.tables))
        if missing:
            raise CaptureError(f"--layers: layer {missing[0]} of this model computes no softmax attention")
        tokens = self.plan.prompt_tokens + steps
        for table in self.tables.values():
            for name in table:
                if name == "q":
                    table[name] = table[name][:steps]
                elif name not in ("qprompt", "prefillMass"):
                    table[name] = table[name][:, :tokens]

    def _check_shape(self, layer: int, query: torch.Tensor, key: torch.Tensor) -> None:
        shape = (query.shape[0], key.shape[0], key.shape[-1])
        if self.shape is None:
            self.shape = shape
        elif self.shape != shape:
            raise CaptureError(
                f"layer {layer}: (heads, kvHeads, headDim) = {shape}, other layers {self.shape}; "
                "one file holds layers of one shape: choose them with --layers"
            )

    def _put_tokens(self, layer: int, name: str, rows: torch.Tensor, first: int, last: int) -> None:
        if name not in self.plan.fields:
            return
        total = self.plan.prompt_tokens + self.plan.steps
        self._table(layer, name, (rows.shape[0], total, rows.shape[-1]), self.plan.dtype)[:, first:last] = rows.cpu()

    def _put_queries(self, layer: int, rows: torch.Tensor, first: int, last: int) -> None:
        prompt, window, count = self.plan.prompt_tokens, self.plan.window, rows.shape[0]
        shape = tuple(rows.shape[1:])
        if "q" in self.plan.fields and last > prompt:
            table = self._table(layer, "q", (self.plan.steps, *shape), self.plan.dtype)
            table[max(first, prompt) - prompt : last - prompt] = rows[max(0, prompt - first) :].cpu()
        begin, end = max(first, prompt - window), min(last, prompt)
        if "qprompt" in self.plan.fields and begin < end:
            table = self._table(layer, "qprompt", (window, *shape), self.plan.dtype)
            table[begin - (prompt - window) : end - (prompt - window)] = rows[begin - first : count - (last - end)].cpu()

    def _take_kpre(self, layer: int, key: torch.Tensor) -> torch.Tensor:
        kpre, self.pending_kpre = self.pending_kpre, None
        if kpre is None or tuple(kpre.shape[1:]) != tuple(key.shape):
            raise CaptureError(f"layer {layer}: keys before RoPE are not visible in this architecture: drop kpre")
        return kpre[0]

    def _table(self, layer: int, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        tables = self.tables.setdefault(layer, {})
        if name not in tables:
            tables[name] = torch.zeros(shape, dtype=dtype)
        return tables[name]
