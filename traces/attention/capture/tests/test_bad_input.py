"""Bad input: exit 2, one line that names the flag, and no file."""

from __future__ import annotations

import json
import os

import gguf
import numpy as np
import pytest
import torch

from kvtier_capture.cli import main
from kvtier_capture.errors import CaptureError
from kvtier_capture.recorder import Plan, Recorder

CASES = {
    "no such folder": (["--model", "./nowhere"], "--model ./nowhere: expected a folder with a config.json"),
    "no such gguf": (["--gguf", "nowhere.gguf"], "--gguf nowhere.gguf: no such file"),
    "gguf that is not": (["--gguf", "{prompt}"], "not a GGUF file"),
    "cut-off gguf": (["--gguf", "{cut}"], "--gguf"),
    "not causal": (["--model", "{bert}"], "BertForMaskedLM is not a causal language model"),
    "encoder-decoder": (["--model", "{t5}"], "encoder-decoder"),
    "layer outside": (["--layers", "1,9"], "--layers 9: the model has layers 0 to 3"),
    "layers garbled": (["--layers", "every:x"], "--layers every:x: expected all, every:N or a list"),
    "every zero": (["--layers", "every:0"], "--layers every:0: expected"),
    "unknown field": (["--fields", "k,z"], "--fields z: expected some of"),
    "both values": (["--fields", "k,v,vnorm"], "exclude each other"),
    "verify without q": (["--fields", "k", "--verify"], "--verify: needs k and q"),
    "no steps": (["--steps", "0"], "--steps 0: expected at least 1"),
    "beyond the context": (["--steps", "400"], "the model's context holds 512"),
    "over the limit": (["--max-prompt-tokens", "100"], "178 tokens, expected at most 100"),
    "no template": (["--chat"], "no chat template"),
    "missing prompt": (["--prompt-file", "nowhere.txt"], "--prompt-file nowhere.txt: No such file"),
    "empty prompt": (["--prompt-file", "{empty}"], "the file is empty"),
    "binary prompt": (["--prompt-file", "{binary}"], "expected UTF-8"),
    "messages garbled": (["--prompt-file", "{messages}"], "expected a list of {role, content} messages"),
    "no such folder to write": (["--out", "/nowhere/at/all.safetensors"], "no such folder"),
    "a folder to write": (["--out", "{folder}"], "is a folder, expected the file to write"),
    "context beyond the model": (["--context", "600"], "--context 600: the model's context holds 512"),
    "prompt beyond the context": (["--context", "100", "--steps", "4"], "--context holds 100"),
    "checkpoints garbled": (["--checkpoint-seconds", "-1"], "expected 0 or more"),
    "an image model": (["--model", "{vit}"], "ViTForImageClassification is not a causal language model"),
    "no such device": (["--device", "warp:9"], "--device warp:9"),
    "short answer": (["--answer-text", "{prompt}", "--steps", "200"], "178 tokens, expected at least 200 (--steps)"),
    "depth": (["--depth", "2"], "--depth 2.0: expected 0 to 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_2(case, model_folder, prompt_file, tmp_path, capsys, monkeypatch):  # noqa: ANN001
    monkeypatch.chdir(tmp_path)
    places = {"prompt": prompt_file, **_broken_inputs(tmp_path)}
    extra, expected = CASES[case]
    out = tmp_path / "out.safetensors"
    flags = [] if extra[0] in ("--model", "--gguf") else ["--model", model_folder("llama")]
    if "--prompt-file" not in extra:
        flags += ["--prompt-file", prompt_file]
    for part in extra:
        name = part.strip("{}")
        flags.append(places[name] if part == f"{{{name}}}" else part)
    arguments = [*flags, "--quiet", *([] if "--out" in extra else ["--out", str(out)])]
    capsys.readouterr()  # what making the model says
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("kvtier-capture: ")
    assert expected in lines[0]
    assert not out.exists()
    assert not list(tmp_path.glob("*.partial"))


def _broken_inputs(folder) -> dict[str, str]:  # noqa: ANN001
    contents = {"empty": b"", "binary": b"\xff\xfe\x00", "cut": b"GGUF\x03\x00\x00\x00", "messages.json": b'{"a": 1}'}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    bert = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    t5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}
    vit = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    for name, config in (("bert", bert), ("t5", t5), ("vit", vit)):
        os.makedirs(folder / f"{name}-model", exist_ok=True)
        (folder / f"{name}-model" / "config.json").write_text(json.dumps(config))
    places = {name.removesuffix(".json"): str(folder / name) for name in contents}
    models = {name: str(folder / f"{name}-model") for name in ("bert", "t5", "vit")}
    return places | models | {"folder": str(folder)}


def test_a_model_outside_the_common_interface_is_refused():
    plan = Plan(frozenset({"k"}), 8, 2, 4, None, torch.float32)
    with pytest.raises(CaptureError, match="common attention interface"):
        Recorder(plan).check_survey()


def test_ggufs_that_hold_no_decoder_are_refused(tmp_path, prompt_file, capsys):  # noqa: ANN001
    for kind in ("clip", "bert"):
        path = str(tmp_path / f"{kind}.gguf")
        writer = gguf.GGUFWriter(path, kind)
        writer.add_tensor("a", np.zeros(8, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        out = str(tmp_path / "a.safetensors")
        assert main(["--gguf", path, "--prompt-file", prompt_file, "--quiet", "--out", out]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert kind in lines[0]
        assert not os.path.exists(out)
