"""Tiny random models with a byte-level tokenizer, written to a folder: nothing is downloaded."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GptOssConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config,
)

COMMON = {
    "vocab_size": 259, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "initializer_range": 0.2,
    "eos_token_id": 257, "bos_token_id": 256, "pad_token_id": 258,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**COMMON),
    "qwen2": lambda: Qwen2Config(**COMMON),
    "gemma3": lambda: Gemma3TextConfig(
        **COMMON, sliding_window=24, query_pre_attn_scalar=64,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    ),
    "gemma3_long": lambda: Gemma3TextConfig(
        **{**COMMON, "max_position_embeddings": 4096}, sliding_window=24, query_pre_attn_scalar=64,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    ),
    "gemma2": lambda: Gemma2Config(**COMMON, sliding_window=24, query_pre_attn_scalar=16, attn_logit_softcapping=5.0),
    "gpt_oss": lambda: GptOssConfig(
        **COMMON, sliding_window=24, num_local_experts=2, num_experts_per_tok=1,
    ),
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: i for i, symbol in enumerate(alphabet)} | {"<s>": 256, "</s>": 257, "<pad>": 258}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def make_model(kind: str, folder: str) -> str:
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind]())
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):  # noqa: ANN001, ANN201
    made: dict[str, str] = {}

    def of(kind: str) -> str:
        if kind not in made:
            made[kind] = make_model(kind, str(tmp_path_factory.mktemp(kind)))
        return made[kind]

    return of


@pytest.fixture
def prompt_file(tmp_path):  # noqa: ANN001, ANN201
    path = tmp_path / "prompt.txt"
    path.write_text("A small river named Duden flows by their place and supplies it with the necessary water. " * 2)
    return str(path)
