"""Compact files mean what their source means; the collection runs every task and keeps what is there."""

from __future__ import annotations

import pytest
import torch

from kvtier_capture import collection, compact
from kvtier_capture.cli import main
from kvtier_capture.trace_file import TraceFile


@pytest.fixture
def source(model_folder, prompt_file, tmp_path):  # noqa: ANN001, ANN201
    def of(*flags: str) -> str:
        out = str(tmp_path / "source.safetensors")
        common = ["--prompt-file", prompt_file, "--steps", "6", "--window", "20", "--ignore-stop", "--quiet"]
        assert main(["--model", model_folder("llama"), *common, "--out", out, *flags]) == 0
        return out

    return of


def test_layers_and_steps_are_cut_and_coded(source, tmp_path):  # noqa: ANN001
    path, out = source(), str(tmp_path / "small.safetensors")
    assert compact.main([path, "--layers", "1,3", "--steps", "4", "--out", out]) == 0
    small, whole = TraceFile(out), TraceFile(path)
    assert (small.metadata["recordedLayers"], small.metadata["steps"]) == ([1, 3], 4)
    assert small.metadata["text"]["generatedSteps"] == 6
    assert small.metadata["quantisation"]["k"]["relativeRmsError"] < 0.02
    for layer in (1, 3):
        torch.testing.assert_close(small.tensor("q", layer), whole.tensor("q", layer)[:4])
        torch.testing.assert_close(small.tensor("prefillMass", layer), whole.tensor("prefillMass", layer))
        torch.testing.assert_close(small.probabilities(layer, 3), whole.probabilities(layer, 3), rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", ["int8-per-token", "int8-per-channel"])
def test_int8_is_copied_bit_by_bit(kind, source, tmp_path):  # noqa: ANN001
    path, out = source("--quantise", kind), str(tmp_path / "small.safetensors")
    assert compact.main([path, "--layers", "2", "--steps", "3", "--out", out]) == 0
    small, whole = TraceFile(out), TraceFile(path)
    assert small.names == {name for name in whole.names if ".2" in name}
    for field in ("k", "v"):
        assert torch.equal(small.tensor(field, 2), whole.tensor(field, 2)[:, : 178 + 3])
    assert small.metadata["quantisation"] == whole.metadata["quantisation"]


def test_one_kv_head_keeps_its_own_attention(source, tmp_path):  # noqa: ANN001
    path, out = source(), str(tmp_path / "small.safetensors")
    assert compact.main([path, "--layers", "1", "--kv-head", "1", "--int8-queries", "--out", out]) == 0
    small, whole = TraceFile(out), TraceFile(path)
    model = small.metadata["model"]
    assert (model["heads"], model["kvHeads"], model["name"][-4:]) == (2, 1, "-kv1")
    assert small.raw("q.1").dtype == torch.int8
    assert small.metadata["quantisation"]["q"]["relativeRmsError"] < 0.01
    torch.testing.assert_close(small.probabilities(1, 5), whole.probabilities(1, 5)[2:], rtol=0, atol=0.05)
    assert small.tensor("prefillMass", 1).shape == (2, 178)


@pytest.mark.parametrize(("flags", "message"), [
    (["--layers", "7"], "--layers 7: "), (["--layers", "x"], "expected numbers"), (["--steps", "9"], "holds 1 to 6"),
    (["--kv-head", "2"], "--kv-head 2: the model has KV heads 0 to 1"),
])
def test_bad_input_is_one_line(flags, message, source, tmp_path, capsys):  # noqa: ANN001
    path, out = source(), tmp_path / "small.safetensors"
    capsys.readouterr()
    assert compact.main([path, *flags, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not out.exists()


def test_the_collection_captures_every_task_once(model_folder, tmp_path, monkeypatch, capsys):  # noqa: ANN001
    books, out = tmp_path / "books", tmp_path / "out"
    books.mkdir()
    out.mkdir()
    for item in collection.ITEMS:
        (books / f"{item.book}.txt").write_text("It rained on the moor that night. Nobody came. " * 40, encoding="utf-8")
    flags = ["--books", str(books), "--out", str(out), "--name", "tiny", "--context", "1500", "--steps", "3",
             "--compact", "1,2", "--model", model_folder("gemma3_long"), "--quiet"]
    assert collection.main([*flags, "--tasks", "needle,nothing"]) == 2
    assert "--tasks nothing: expected some of needle, multi-hop" in capsys.readouterr().err
    assert collection.main([*flags, "--tasks", "code,kv-retrieval"]) == 0
    assert len(list(out.iterdir())) == 4
    assert collection.main(flags) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {f"tiny-{i.task}{end}.safetensors" for i in collection.ITEMS for end in ("", "-compact")}
    assert TraceFile(str(out / "tiny-multi-hop-compact.safetensors")).metadata["model"]["slidingLayers"] == [0, 2]
    monkeypatch.setattr(collection, "capture", lambda _: pytest.fail("captured again"))
    assert collection.main(flags) == 0
