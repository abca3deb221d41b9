"""Prompts: a user's file as it is, or the longest size of a task (tasks.py) that the context holds.

A task knows its answer and where the passages lie that hold it; whether the model found it is recorded beside the trace.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from .errors import CaptureError
from .tasks import Case, Make, code, dialogue, kv_retrieval, long_generation, multi_hop, needle, sentences_of

TASKS = ("needle", "multi-hop", "code", "kv-retrieval", "dialogue", "long-generation")


@dataclass(frozen=True)
class Prompt:
    tokens: list[int]
    kind: str
    question: str
    """The tail of the prompt: what was asked."""
    answer: str | None = None
    """What a right answer contains, when known."""
    evidence: tuple[tuple[int, int], ...] = ()
    """Token positions [first, last) of the passages that the answer depends on, when known."""
    whole_text: bool = False
    """The book ended before the context did."""
    forced: tuple[int, ...] = ()
    """Tokens that the decode steps read instead of generating any."""


def from_file(tokenizer: PreTrainedTokenizerBase, path: str, chat: bool, limit: int | None) -> Prompt:
    """A text file (one user message, or raw text without `chat`) or a .json list of {role, content} messages."""
    text = read_text(path, "--prompt-file")
    messages = _messages(path, text) if path.endswith(".json") else [{"role": "user", "content": text}]
    if path.endswith(".json") or chat:
        tokens = tokenizer(_chat_text(tokenizer, messages), add_special_tokens=False)["input_ids"]
    else:
        tokens = tokenizer(text)["input_ids"]
    if limit is not None and len(tokens) > limit:
        raise CaptureError(f"--prompt-file {path}: {len(tokens)} tokens, expected at most {limit} (--max-prompt-tokens)")
    return Prompt(tokens, "file", messages[-1]["content"][-400:])


def from_task(
    tokenizer: PreTrainedTokenizerBase, task: str, text_path: str | None, limit: int, seed: int, depth: float, chat: bool
) -> Prompt:
    """The longest prompt of `task` within `limit` tokens, found by bisection over its units (sentences, pairs …)."""
    make, most = _maker(task, text_path, seed, depth, limit)

    def text_of(units: int) -> str:
        case = make(units)
        return _chat_text(tokenizer, case.messages) if chat else _plain_text(case)

    def tokens_of(units: int) -> list[int]:
        return tokenizer(text_of(units), add_special_tokens=not chat)["input_ids"]

    if len(tokens_of(1)) > limit:
        raise CaptureError(f"--task {task}: a prompt of {limit} tokens is too short (--context, --max-prompt-tokens)")
    # Doubling first: no text much longer than the prompt is ever tokenised.
    low, high = 1, min(most, limit)
    while low * 2 <= high and len(tokens_of(low * 2)) <= limit:
        low *= 2
    high = min(high, low * 2)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(tokens_of(middle)) <= limit else (low, middle - 1)
    case = make(low)
    evidence = _find(tokenizer, text_of(low), case.evidence, not chat)
    return Prompt(tokens_of(low), task, case.question, case.answer, evidence, whole_text=low == most and most < limit)


def forced_answer(tokenizer: PreTrainedTokenizerBase, path: str, steps: int) -> tuple[int, ...]:
    """The first `steps` tokens of a text that stands for the answer."""
    tokens = tokenizer(read_text(path, "--answer-text"), add_special_tokens=False)["input_ids"]
    if len(tokens) < steps:
        raise CaptureError(f"--answer-text {path}: {len(tokens)} tokens, expected at least {steps} (--steps)")
    return tuple(tokens[:steps])


def _maker(task: str, text_path: str | None, seed: int, depth: float, limit: int) -> tuple[Make, int]:
    """The task's builder and its largest size in units."""
    if task not in TASKS:
        raise CaptureError(f"--task {task}: expected one of {', '.join(TASKS)}")
    rng = random.Random(seed)
    sentences = [] if text_path is None else sentences_of(read_text(text_path, "--text"))
    if task == "kv-retrieval":
        return kv_retrieval(depth, rng), limit
    if task == "code":
        return code(sentences, depth, rng), limit
    if not sentences:
        raise CaptureError(f"--task {task}: expected --text FILE, the book that the prompt is made from")
    made_of_a_book = {"needle": needle, "multi-hop": multi_hop, "dialogue": dialogue, "long-generation": long_generation}
    return made_of_a_book[task](sentences, depth, rng), len(sentences)


def _plain_text(case: Case) -> str:
    """The case for a model without a chat template, which can only go on with a text."""
    if case.continues:
        return case.messages[0]["content"].removesuffix(case.question).rstrip()
    if len(case.messages) == 1:
        return f"{case.messages[0]['content']}\nAnswer:"
    turns = [f"{message['role'].capitalize()}: {message['content']}" for message in case.messages]
    return "\n\n".join([*turns, "Assistant:"])


def _find(
    tokenizer: PreTrainedTokenizerBase, text: str, passages: tuple[str, ...], special: bool
) -> tuple[tuple[int, int], ...]:
    """Token ranges of `passages` in `text`; none where the tokenizer cannot say which characters a token covers."""
    if not tokenizer.is_fast or not passages:
        return ()
    spans = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)["offset_mapping"]
    ranges = []
    for passage in passages:
        first = text.index(passage)
        inside = [i for i, (a, b) in enumerate(spans) if a < first + len(passage) and b > first and b > a]
        ranges.append((inside[0], inside[-1] + 1))
    return tuple(ranges)


def read_text(path: str, flag: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise CaptureError(f"{flag} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CaptureError(f"{flag} {path}: expected UTF-8 text (byte {error.start} is not)") from error
    if not text.strip():
        raise CaptureError(f"{flag} {path}: the file is empty")
    return text


def _messages(path: str, text: str) -> list[dict[str, str]]:
    try:
        messages = json.loads(text)
    except json.JSONDecodeError as error:
        raise CaptureError(f"--prompt-file {path}: not JSON: {error.msg} in line {error.lineno}") from error
    well_formed = isinstance(messages, list) and messages and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    )
    if not well_formed:
        raise CaptureError(f"--prompt-file {path}: expected a list of {{role, content}} messages")
    return messages


def _chat_text(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    if not tokenizer.chat_template:
        raise CaptureError("--chat: this tokenizer has no chat template; use --no-chat")
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
