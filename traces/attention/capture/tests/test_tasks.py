"""Prompts of tasks: they fill the context, know their answer, lie where they should, and are the same every time."""

from __future__ import annotations

import itertools

import pytest
from conftest import byte_tokenizer

from kvtier_capture.cli import main
from kvtier_capture.errors import CaptureError
from kvtier_capture.prompts import TASKS, from_task
from kvtier_capture.trace_file import TraceFile

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def book(tmp_path):  # noqa: ANN001, ANN201
    path = tmp_path / "book.txt"
    path.write_text(" ".join(f"It rained on moor {i} that night. Nobody came!" for i in range(4000)), encoding="utf-8")
    return str(path)


def prompt_of(task: str, book: str, limit: int, seed: int = 1, depth: float = 0.2, chat: bool = True):  # noqa: ANN201
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    return from_task(tokenizer, task, book, limit, seed, depth, chat), tokenizer


@pytest.mark.parametrize(("task", "chat"), list(itertools.product(TASKS, (True, False))))
def test_a_prompt_fills_the_limit_and_holds_what_it_asks_for(task, chat, book):  # noqa: ANN001
    prompt, tokenizer = prompt_of(task, book, 9000, chat=chat)
    assert 9000 - 400 < len(prompt.tokens) <= 9000
    text = tokenizer.decode(prompt.tokens)
    if task == "long-generation":
        assert prompt.answer is None
        assert (prompt.question in text) == chat
        return
    assert prompt.question in text
    assert prompt.answer is not None
    passages = [tokenizer.decode(prompt.tokens[first:last]) for first, last in prompt.evidence]
    assert any(prompt.answer in passage for passage in passages)


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_prompt_other_seed_another(task, book):  # noqa: ANN001
    first, again, other = (prompt_of(task, book, 3000, seed)[0].tokens for seed in (5, 5, 7))
    assert first == again
    assert first != other


def test_facts_of_a_multi_hop_question_lie_far_apart(book):  # noqa: ANN001
    prompt, _ = prompt_of("multi-hop", book, 12000, depth=0.1)
    starts = sorted(first for first, _ in prompt.evidence)
    assert len(starts) == 3
    assert starts[0] == pytest.approx(0.1 * 12000, rel=0.2)
    assert min(b - a for a, b in itertools.pairwise(starts)) > 0.2 * 12000


@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_depth_says_where_the_fact_lies(depth, book):  # noqa: ANN001
    first, _ = prompt_of("needle", book, 8000, depth=depth)[0].evidence[0]
    assert first == pytest.approx(depth * 8000, abs=500)


def test_the_code_answer_is_two_references_away(book):  # noqa: ANN001
    prompt, tokenizer = prompt_of("code", book, 8000)
    target, caller = (tokenizer.decode(prompt.tokens[first:last]) for first, last in prompt.evidence)
    name = target.split("def ")[1].split("(")[0]
    assert f"return {name}(" in caller
    assert prompt.answer in target
    assert prompt.answer not in prompt.question


def test_a_book_that_is_too_short_is_said(book, tmp_path, model_folder, capsys):  # noqa: ANN001
    short = tmp_path / "short.txt"
    short.write_text("It rained. Nobody came. ", encoding="utf-8")
    out = str(tmp_path / "a.safetensors")
    flags = ["--model", model_folder("llama"), "--task", "needle", "--text", str(short), "--ignore-stop", "--out", out]
    assert main([*flags, "--context", "400", "--steps", "2"]) == 0
    assert "the whole of" in capsys.readouterr().err


def test_the_trace_says_task_answer_and_evidence(book, tmp_path, model_folder):  # noqa: ANN001
    out = str(tmp_path / "a.safetensors")
    flags = ["--model", model_folder("llama"), "--task", "kv-retrieval", "--ignore-stop", "--out", out]
    assert main([*flags, "--context", "480", "--steps", "4", "--quiet"]) == 0
    metadata = TraceFile(out).metadata
    assert metadata["provenance"]["prompt"] == "kv-retrieval"
    assert metadata["promptTokens"] <= 476
    assert metadata["text"]["answer"]
    ((first, last),) = metadata["text"]["evidenceTokens"]
    assert 0 <= first < last < metadata["promptTokens"]


def test_a_task_without_its_book_is_refused():
    with pytest.raises(CaptureError, match="--task multi-hop: expected --text"):
        from_task(byte_tokenizer(), "multi-hop", None, 400, 0, 0.1, False)
