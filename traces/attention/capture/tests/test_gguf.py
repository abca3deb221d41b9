"""A GGUF file and the folder that it was made from give the same trace."""

from __future__ import annotations

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kvtier_capture.cli import main
from kvtier_capture.trace_file import TraceFile

NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def write_gguf(folder: str, path: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    config, tokenizer = model.config, AutoTokenizer.from_pretrained(folder)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    # The reader wants a list of merges, and each merge in the vocabulary: a pair that the prompt does not hold.
    writer.add_token_list([*tokenizer.convert_ids_to_tokens(list(range(config.vocab_size - 1))), "qz"])
    writer.add_token_types([1] * 256 + [3, 3, 1])
    writer.add_token_merges(["q z"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    for name, weight in model.state_dict().items():
        writer.add_tensor(*_tensor(name, weight.float().numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensor(name: str, weight: np.ndarray, config) -> tuple[str, np.ndarray]:  # noqa: ANN001
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name], weight
    _, _, layer, rest = name.split(".", 3)
    part = rest.removesuffix(".weight")
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}.get(part)
    if heads is not None:
        # The format rotates neighbouring pairs, Hugging Face halves: rows are interleaved per head.
        rows = weight.shape[0] // heads // 2
        weight = weight.reshape(heads, 2, rows, -1).swapaxes(1, 2).reshape(weight.shape)
    return f"blk.{layer}.{NAMES[part]}.weight", np.ascontiguousarray(weight)


def test_gguf_and_folder_give_the_same_trace(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    folder, path = model_folder("llama"), str(tmp_path / "tiny.gguf")
    write_gguf(folder, path)
    traces = []
    for name, flags in (("a", ["--model", folder]), ("b", ["--gguf", path])):
        out = str(tmp_path / f"{name}.safetensors")
        common = ["--prompt-file", prompt_file, "--no-chat", "--steps", "6", "--store", "f32", "--ignore-stop"]
        assert main([*flags, *common, "--quiet", "--out", out]) == 0
        traces.append(TraceFile(out))
    one, two = traces
    assert one.metadata["text"]["generated"] == two.metadata["text"]["generated"]
    assert two.metadata["model"]["name"] == "tiny"
    for layer in range(4):
        for field in ("k", "v", "q"):
            torch.testing.assert_close(one.tensor(field, layer), two.tensor(field, layer), rtol=1e-3, atol=1e-4)
