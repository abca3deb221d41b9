"""Opens a model and its tokenizer: a Hugging Face name, a local folder, or a GGUF file.

Promise: the small files are read and judged before the weights; every refusal is one line that names the flag.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers import PreTrainedTokenizerBase

from .errors import CaptureError
from .hook import NAME
from .recorder import Recorder


@dataclass(frozen=True)
class Source:
    """Where a model comes from: `flag` is what the user typed, `where` a folder or hub name, `gguf` a file in it."""

    flag: str
    where: str
    gguf: str | None

    def arguments(self) -> dict[str, str]:
        return {} if self.gguf is None else {"gguf_file": self.gguf}


def locate(model: str | None, gguf: str | None) -> Source:
    if gguf is not None:
        if not os.path.isfile(gguf):
            raise CaptureError(f"--gguf {gguf}: no such file")
        with open(gguf, "rb") as file:
            if file.read(4) != b"GGUF":
                raise CaptureError(f"--gguf {gguf}: not a GGUF file (its first four bytes are not GGUF)")
        return Source(f"--gguf {gguf}", os.path.dirname(os.path.abspath(gguf)), os.path.basename(gguf))
    assert model is not None
    looks_like_path = model.startswith((".", "/", "~")) or os.path.exists(model)
    if looks_like_path and not os.path.isfile(os.path.join(os.path.expanduser(model), "config.json")):
        raise CaptureError(f"--model {model}: expected a folder with a config.json")
    return Source(f"--model {model}", os.path.expanduser(model) if looks_like_path else model, None)


def load_config(source: Source) -> PreTrainedConfig:
    config = _attempt(source, lambda: AutoConfig.from_pretrained(source.where, **source.arguments()))
    architectures = getattr(config, "architectures", None) or []
    generates = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    if getattr(config, "is_encoder_decoder", False):
        raise CaptureError(f"{source.flag}: {config.model_type} is an encoder-decoder, expected a causal language model")
    if architectures and not any(name.endswith(generates) for name in architectures):
        raise CaptureError(f"{source.flag}: {architectures[0]} is not a causal language model")
    return config


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    return _attempt(source, lambda: AutoTokenizer.from_pretrained(source.where, **source.arguments()))


def load_model(source: Source, device: str, dtype: torch.dtype) -> torch.nn.Module:
    options = {"attn_implementation": NAME, "dtype": dtype, **source.arguments()}
    # The GGUF loader draws its progress bar whatever transformers' own switch says.
    bars = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    with bars:
        model = _attempt(source, lambda: AutoModelForCausalLM.from_pretrained(source.where, **options))
    return model.to(device).eval()


def identity(source: Source, config: PreTrainedConfig) -> str:
    """Tells one set of weights from another without reading them: sizes, and the hub's commit where there is one."""
    if source.gguf is not None:
        path = os.path.join(source.where, source.gguf)
        with open(path, "rb") as file:
            return f"{os.path.getsize(path)} {hashlib.sha256(file.read(1 << 20)).hexdigest()}"
    if not os.path.isdir(source.where):
        return str(getattr(config, "_commit_hash", None))
    files = sorted(entry.name for entry in os.scandir(source.where) if entry.is_file())
    return " ".join(f"{name}:{os.path.getsize(os.path.join(source.where, name))}" for name in files)


def context_tokens(config: PreTrainedConfig) -> int | None:
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def describe_model(config: PreTrainedConfig, recorder: Recorder, name: str, source: str, architecture: str) -> dict:
    """The `model` object of the metadata; heads and sliding layers as the model ran them, not as the config says."""
    text = config.get_text_config()
    assert recorder.shape is not None
    heads, kv_heads, head_dim = recorder.shape
    windows = set(recorder.windows.values())
    if len(windows) > 1:
        raise CaptureError(f"layers have sliding windows of {sorted(windows)} tokens: the format holds one size")
    return {
        "name": name,
        "source": source,
        "architecture": architecture,
        "layers": text.num_hidden_layers,
        "heads": heads,
        "kvHeads": kv_heads,
        "headDim": head_dim,
        "hidden": text.hidden_size,
        "vocab": text.vocab_size,
        "maxContextTokens": context_tokens(config),
        "slidingWindowTokens": next(iter(windows), None),
        "slidingLayers": sorted(recorder.windows),
    }


def describe_rope(config: PreTrainedConfig, head_dim: int) -> dict | None:
    """The `rope` object of the metadata: theta, the scaling rule if any, and how many dimensions rotate."""
    text = config.get_text_config()
    parameters = getattr(text, "rope_parameters", None)
    if not parameters:
        return None
    # Models with sliding layers keep one rule per layer type; the layers that see far are the ones that matter here.
    parameters = dict(parameters.get("full_attention", parameters))
    theta = parameters.pop("rope_theta", None)
    kind = parameters.get("rope_type", "default")
    partial = parameters.pop("partial_rotary_factor", None) or getattr(text, "partial_rotary_factor", None) or 1.0
    scaling = None if kind == "default" else parameters
    return {"theta": theta, "scaling": scaling, "dim": int(head_dim * partial)}


def _attempt(source: Source, read):  # noqa: ANN001, ANN202 - returns what `read` returns
    # transformers raises OSError, ValueError, KeyError, ImportError and its own for input that it cannot open.
    try:
        return read()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CaptureError(f"{source.flag}: {lines[0][:300]}") from error
