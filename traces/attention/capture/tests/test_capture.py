"""What a capture promises, on random models: the file's q, k, v give back the model's own attention."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from kvtier_capture.cli import main
from kvtier_capture.trace_file import TraceFile


def capture(folder: str, prompt: str, out, *flags: str) -> TraceFile:  # noqa: ANN001
    code = main([
        "--model", folder, "--prompt-file", prompt, "--steps", "6", "--window", "20", "--chunk", "50", "--store", "f32",
        "--ignore-stop", "--quiet", "--out", str(out), *flags,
    ])
    assert code == 0
    return TraceFile(str(out))


def own_attention(folder: str, prompt: str) -> tuple[torch.Tensor, ...]:
    """The prompt's attention weights per layer, [heads, tokens, tokens], from the architecture's eager code."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with open(prompt, encoding="utf-8") as file:
        ids = AutoTokenizer.from_pretrained(folder)(file.read(), return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return tuple(layer[0] for layer in model(ids, output_attentions=True).attentions)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3"])
def test_file_gives_back_the_models_own_attention(kind, model_folder, prompt_file, tmp_path):  # noqa: ANN001
    trace = capture(model_folder(kind), prompt_file, tmp_path / "a.safetensors", "--verify")
    verified = trace.metadata["provenance"]["verified"]
    assert verified["maxProbabilityError"] < 2e-5
    assert verified["relativeOutputError"] < 2e-5
    assert verified["tokensAgree"] == 6
    assert trace.metadata["recordedLayers"] == [0, 1, 2, 3]
    assert (trace.metadata["promptTokens"], trace.metadata["steps"]) == (178, 6)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_prefill_mass_is_the_column_sum_of_the_prompts_attention(kind, model_folder, prompt_file, tmp_path):  # noqa: ANN001
    trace = capture(model_folder(kind), prompt_file, tmp_path / "a.safetensors")
    for layer, weights in enumerate(own_attention(model_folder(kind), prompt_file)):
        torch.testing.assert_close(trace.tensor("prefillMass", layer), weights.sum(dim=1), rtol=1e-4, atol=1e-4)


def test_prompt_window_holds_the_last_prompt_queries(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    trace = capture(model_folder("llama"), prompt_file, tmp_path / "a.safetensors")
    weights = own_attention(model_folder("llama"), prompt_file)[2]
    queries, keys = trace.tensor("qprompt", 2), trace.tensor("k", 2)
    assert queries.shape == (20, 4, 16)
    for row in (0, 11, 19):
        end = 178 - 20 + row + 1
        scores = torch.einsum("kgd,ktd->kgt", queries[row].reshape(2, 2, 16), keys[:, :end]) / 4
        mine = torch.softmax(scores, dim=-1).reshape(4, end)
        torch.testing.assert_close(mine, weights[:, end - 1, :end], rtol=1e-4, atol=1e-5)


def test_chunking_the_prompt_changes_nothing(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    one = capture(model_folder("gemma3"), prompt_file, tmp_path / "a.safetensors", "--chunk", "1000")
    many = capture(model_folder("gemma3"), prompt_file, tmp_path / "b.safetensors", "--chunk", "7")
    assert one.names == many.names
    for name in one.names:
        field, layer = name.split(".")
        torch.testing.assert_close(one.tensor(field, int(layer)), many.tensor(field, int(layer)), rtol=1e-3, atol=1e-4)


def test_sliding_layers_are_those_that_the_model_ran_so(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    model = capture(model_folder("gemma3"), prompt_file, tmp_path / "a.safetensors").metadata["model"]
    assert model["slidingLayers"] == [0, 2]
    assert model["slidingWindowTokens"] == 24


def test_keys_before_rope_turn_into_the_keys(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    trace = capture(model_folder("llama"), prompt_file, tmp_path / "a.safetensors", "--fields", "k,kpre")
    before, after = trace.tensor("kpre", 1), trace.tensor("k", 1)
    angle = torch.arange(before.shape[1])[:, None] / 10000 ** (torch.arange(8)[None, :] / 8)
    left, right = before[..., :8], before[..., 8:]
    turned = torch.cat([left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()], dim=-1)
    torch.testing.assert_close(turned, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "extra"), [("gemma2", "logitSoftcap"), ("gpt_oss", "sinkLogits")])
def test_softmax_terms_beyond_q_and_k_are_run_and_said(kind, extra, model_folder, prompt_file, tmp_path):  # noqa: ANN001
    trace = capture(model_folder(kind), prompt_file, tmp_path / "a.safetensors", "--verify")
    assert extra in trace.metadata["provenance"]["softmaxExtras"]
    assert trace.metadata["provenance"]["verified"]["tokensAgree"] == 6
    for layer, weights in enumerate(own_attention(model_folder(kind), prompt_file)):
        torch.testing.assert_close(trace.tensor("prefillMass", layer), weights.sum(dim=1), rtol=1e-4, atol=1e-4)


def test_layers_and_fields_are_what_was_asked_for(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    trace = capture(model_folder("llama"), prompt_file, tmp_path / "a.safetensors", "--layers", "every:3",
                    "--fields", "q,k,vnorm")
    assert trace.metadata["fields"] == ["k", "vnorm", "q"]
    assert trace.names == {"k.0", "k.3", "vnorm.0", "vnorm.3", "q.0", "q.3"}
    with safe_open(str(tmp_path / "a.safetensors"), framework="pt") as file:
        assert file.get_tensor("k.0").dtype == torch.float32


def test_an_answer_that_ends_early_makes_a_shorter_trace(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    folder = str(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    with open(prompt_file, encoding="utf-8") as file:
        ids = tokenizer(file.read(), return_tensors="pt")["input_ids"]
    said = model.generate(ids, max_new_tokens=6, do_sample=False, suppress_tokens=[257])[0, ids.shape[1] :].tolist()
    stop = next(i for i in range(1, 6) if said[i] not in said[:i])
    model.generation_config.eos_token_id = said[stop]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    out = tmp_path / "a.safetensors"
    assert main(["--model", folder, "--prompt-file", prompt_file, "--steps", "6", "--quiet", "--out", str(out)]) == 0
    trace = TraceFile(str(out))
    assert trace.metadata["steps"] == stop
    assert trace.tensor("q", 0).shape[0] == stop
    assert trace.tensor("k", 0).shape[1] == 178 + stop


def test_same_seed_samples_the_same_tokens(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    def said(name: str, seed: str) -> str:
        flags = ["--temperature", "1.0", "--seed", seed]
        return capture(model_folder("qwen2"), prompt_file, tmp_path / name, *flags).metadata["text"]["generated"]

    assert said("a", "1") == said("b", "1")
    assert len({said("a", str(seed)) for seed in range(4)}) > 1


def test_readme_snippet_writes_the_format(tmp_path, monkeypatch):  # noqa: ANN001
    readme = os.path.join(os.path.dirname(__file__), "..", "README.md")
    with open(readme, encoding="utf-8") as file:
        snippet = file.read().split("```python\n")[1].split("```")[0]
    assert len(snippet.strip().splitlines()) <= 30
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})  # noqa: S102 - our own documentation
    trace = TraceFile("mine.safetensors")
    assert trace.metadata["format"] == "kvtier.attention/1"
    row = trace.probabilities(trace.metadata["recordedLayers"][0], 0)
    torch.testing.assert_close(row.sum(dim=-1), torch.ones(row.shape[0]))
    json.dumps(trace.metadata)


def test_a_given_answer_is_read_and_leaves_the_rows_that_generating_it_would(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    folder, answer = model_folder("llama"), tmp_path / "answer.txt"
    answer.write_text("It rained on the moor.", encoding="utf-8")
    read = capture(folder, prompt_file, tmp_path / "read.safetensors", "--answer-text", str(answer), "--verify")
    assert read.metadata["text"]["generated"] == "It rai"
    assert read.metadata["provenance"]["answer"] == "read, not generated"
    assert read.metadata["provenance"]["verified"]["maxProbabilityError"] < 2e-5
    whole = tmp_path / "whole.txt"
    with open(prompt_file, encoding="utf-8") as file:
        whole.write_text(file.read() + "It rain", encoding="utf-8")
    steps = capture(folder, str(whole), tmp_path / "whole.safetensors", "--window", "7")
    for field, rows in (("k", slice(0, 184)), ("q", None)):
        ours = read.tensor(field, 2)
        theirs = steps.tensor("qprompt", 2)[:6] if rows is None else steps.tensor(field, 2)[:, rows]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
