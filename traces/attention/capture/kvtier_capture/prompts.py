"""Prompts: a user's file as it is, or a long-context task made from a seed and a book.

Retrieval heads fire only when the answer lies far back, so each task hides facts early and asks at the end. A task
knows its answer; whether the model found it is recorded beside the trace.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from .errors import CaptureError

TASKS = ("needle", "dialogue", "kv-retrieval", "code")


@dataclass(frozen=True)
class Prompt:
    tokens: list[int]
    kind: str
    question: str
    """The tail of the prompt: what was asked."""
    answer: str | None = None
    """What a right answer contains, when known."""
    evidence: tuple[int, int] | None = None
    """Token positions [first, last) of the fact that the answer depends on, when known."""


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
    """The longest prompt of `task` within `limit` tokens, found by bisection over its number of units."""
    rng = random.Random(seed)
    if task in ("needle", "dialogue"):
        if text_path is None:
            raise CaptureError(f"--task {task}: expected --text FILE, the book to hide the fact in")
        sentences = _sentences(read_text(text_path, "--text"))
        make, most = (_needle if task == "needle" else _dialogue)(sentences, depth, rng), len(sentences)
    elif task == "kv-retrieval":
        make, most = _kv_retrieval(depth, rng), limit
    elif task == "code":
        make, most = _code(depth, rng), limit
    else:
        raise CaptureError(f"--task {task}: expected one of {', '.join(TASKS)}")

    def text_of(units: int) -> str:
        messages = make(units).messages
        text = "\n\n".join(message["content"] for message in messages)
        return _chat_text(tokenizer, messages) if chat else f"{text}\nAnswer:"

    def tokens_of(units: int) -> list[int]:
        return tokenizer(text_of(units), add_special_tokens=not chat)["input_ids"]

    low, high = 1, min(most, limit)
    if len(tokens_of(low)) > limit:
        raise CaptureError(f"--max-prompt-tokens {limit}: too few for --task {task}")
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(tokens_of(middle)) <= limit else (low, middle - 1)
    case = make(low)
    return Prompt(
        tokens_of(low), task, case.question, case.answer, _find(tokenizer, text_of(low), case.evidence, not chat)
    )


@dataclass(frozen=True)
class _Case:
    """One size of a task: the long text, the question after it, the answer, and the passage that holds it."""

    messages: list[dict[str, str]]
    question: str
    answer: str
    evidence: str


def _single(body: str, question: str, answer: str, evidence: str) -> _Case:
    return _Case([{"role": "user", "content": f"{body}\n\n{question}"}], question, answer, evidence)


def _find(
    tokenizer: PreTrainedTokenizerBase, text: str, passage: str, special: bool
) -> tuple[int, int] | None:
    """Token range of `passage` in `text`; None where the tokenizer cannot say which characters a token covers."""
    if not tokenizer.is_fast:
        return None
    first = text.index(passage)
    spans = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)["offset_mapping"]
    inside = [i for i, (a, b) in enumerate(spans) if a < first + len(passage) and b > first and b > a]
    return inside[0], inside[-1] + 1


def _sentences(book: str) -> list[str]:
    marked = " ".join(book.split())
    for end in ("! ", "? ", ". "):
        marked = marked.replace(end, f"{end[0]}\n")
    return [sentence for sentence in marked.split("\n") if sentence.strip()]


def _needle(sentences: list[str], depth: float, rng: random.Random):  # noqa: ANN202
    place = rng.choice(["Lyme Regis", "Dunwich", "Whitby", "Aldeburgh", "Falmouth"])
    thing = rng.choice(["silver lantern", "copper telescope", "green umbrella", "walnut violin"])
    sentence = f"The {thing} that everybody was looking for had been left in the old lighthouse of {place}."
    question = f"According to the text above, where had the {thing} been left? Answer, then explain in a few sentences."

    def make(units: int) -> _Case:
        part = sentences[:units]
        at = int(depth * len(part))
        return _single(" ".join([*part[:at], sentence, *part[at:]]), question, place, sentence)

    return make


def _dialogue(sentences: list[str], depth: float, rng: random.Random):  # noqa: ANN202
    """A reader pastes a book turn by turn, says something personal in one of the turns, and asks for it at the end."""
    name = rng.choice(["Eleanor", "Cassandra", "Harriet", "Frederick", "Augusta"])
    town = rng.choice(["Lisbon", "Trieste", "Bergen", "Cairo", "Quebec"])
    fact = f"By the way, I am reading this on the train to {town}, where my sister {name} lives."
    question = "Which town is my train going to, and who lives there? Then say what you think of the book."
    turn = 12

    def make(units: int) -> _Case:
        parts = [" ".join(sentences[i : min(i + turn, units)]) for i in range(0, units, turn)]
        told = min(int(depth * len(parts)), len(parts) - 1)
        messages = []
        for number, part in enumerate(parts):
            said = f"{part}\n\n{fact}" if number == told else part
            messages.append({"role": "user", "content": f"Here is part {number + 1}:\n\n{said}"})
            messages.append({"role": "assistant", "content": f"Thank you, I have read part {number + 1}."})
        return _Case([*messages, {"role": "user", "content": question}], question, town, fact)

    return make


def _kv_retrieval(depth: float, rng: random.Random):  # noqa: ANN202
    pairs: list[tuple[str, str]] = []

    def make(units: int) -> _Case:
        while len(pairs) < units:
            pairs.append((f"{rng.getrandbits(20):05x}", f"{rng.getrandbits(20):05x}"))
        key, value = pairs[int(depth * (units - 1))]
        lines = "\n".join(f'"{k}": "{v}"' for k, v in pairs[:units])
        body = f"Below is a table of keys and values.\n\n{lines}"
        return _single(body, f'What is the value of the key "{key}"?', value, f'"{key}": "{value}"')

    return make


def _code(depth: float, rng: random.Random):  # noqa: ANN202
    nouns = ["ledger", "harbor", "signal", "orchard", "cabinet", "meadow", "lantern", "engine", "garden", "archive"]
    verbs = ["load", "count", "merge", "check", "close", "index", "scan", "rank", "pack", "trace"]
    functions: list[tuple[str, str, int]] = []

    def make(units: int) -> _Case:
        while len(functions) < units:
            name = f"{rng.choice(verbs)}_{rng.choice(nouns)}_{len(functions)}"
            called = rng.choice(functions)[0] if functions else "len"
            constant = rng.randrange(100, 1000)
            body = f"def {name}(items):\n    limit = {constant}\n    return {called}(items[:limit])\n"
            functions.append((name, body, constant))
        name, evidence, constant = functions[int(depth * (units - 1))]
        source = "\n\n".join(body for _, body, _ in functions[:units])
        question = f"In the Python module above, what is the value of `limit` in the function `{name}`?"
        return _single(f"```python\n{source}```", question, str(constant), evidence)

    return make


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
