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

TASKS = ("needle", "kv-retrieval", "code")


@dataclass(frozen=True)
class Prompt:
    tokens: list[int]
    kind: str
    question: str
    """The tail of the prompt: what was asked."""
    answer: str | None
    """What a right answer contains, when known."""


def from_file(tokenizer: PreTrainedTokenizerBase, path: str, chat: bool, limit: int | None) -> Prompt:
    """A text file (one user message, or raw text without `chat`) or a .json list of {role, content} messages."""
    text = read_text(path, "--prompt-file")
    messages = _messages(path, text) if path.endswith(".json") else [{"role": "user", "content": text}]
    if path.endswith(".json") or chat:
        tokens = _template(tokenizer, messages)
    else:
        tokens = tokenizer(text)["input_ids"]
    if limit is not None and len(tokens) > limit:
        raise CaptureError(f"--prompt-file {path}: {len(tokens)} tokens, expected at most {limit} (--max-prompt-tokens)")
    return Prompt(tokens, "file", messages[-1]["content"][-400:], None)


def from_task(
    tokenizer: PreTrainedTokenizerBase, task: str, text_path: str | None, limit: int, seed: int, depth: float, chat: bool
) -> Prompt:
    """The longest prompt of `task` within `limit` tokens, found by bisection over its number of units."""
    rng = random.Random(seed)
    if task == "needle":
        if text_path is None:
            raise CaptureError("--task needle: expected --text FILE, the book to hide the sentence in")
        make, most = _needle(read_text(text_path, "--text"), depth, rng), None
    elif task == "kv-retrieval":
        make, most = _kv_retrieval(depth, rng), limit
    elif task == "code":
        make, most = _code(depth, rng), limit
    else:
        raise CaptureError(f"--task {task}: expected one of {', '.join(TASKS)}")

    def tokens_of(units: int) -> list[int]:
        body, question, _ = make(units)
        content = f"{body}\n\n{question}"
        if chat:
            return _template(tokenizer, [{"role": "user", "content": content}])
        return tokenizer(f"{content}\nAnswer:")["input_ids"]

    low, high = 1, most or limit
    if len(tokens_of(low)) > limit:
        raise CaptureError(f"--max-prompt-tokens {limit}: too few for --task {task}")
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(tokens_of(middle)) <= limit else (low, middle - 1)
    _, question, answer = make(low)
    return Prompt(tokens_of(low), task, question, answer)


def _needle(book: str, depth: float, rng: random.Random):  # noqa: ANN202
    sentences = [s.strip() for s in " ".join(book.split()).replace("! ", "!\n").replace("? ", "?\n")
                 .replace(". ", ".\n").split("\n") if s.strip()]
    place = rng.choice(["Lyme Regis", "Dunwich", "Whitby", "Aldeburgh", "Falmouth"])
    thing = rng.choice(["silver lantern", "copper telescope", "green umbrella", "walnut violin"])
    sentence = f"The {thing} that everybody was looking for had been left in the old lighthouse of {place}."
    question = f"According to the text above, where had the {thing} been left? Answer, then explain in a few sentences."

    def make(units: int) -> tuple[str, str, str]:
        part = sentences[:units]
        at = int(depth * len(part))
        return " ".join([*part[:at], sentence, *part[at:]]), question, place

    return make


def _kv_retrieval(depth: float, rng: random.Random):  # noqa: ANN202
    pairs: list[tuple[str, str]] = []

    def make(units: int) -> tuple[str, str, str]:
        while len(pairs) < units:
            pairs.append((f"{rng.getrandbits(20):05x}", f"{rng.getrandbits(20):05x}"))
        key, value = pairs[int(depth * (units - 1))]
        lines = "\n".join(f'"{k}": "{v}"' for k, v in pairs[:units])
        return f"Below is a table of keys and values.\n\n{lines}", f'What is the value of the key "{key}"?', value

    return make


def _code(depth: float, rng: random.Random):  # noqa: ANN202
    nouns = ["ledger", "harbor", "signal", "orchard", "cabinet", "meadow", "lantern", "engine", "garden", "archive"]
    verbs = ["load", "count", "merge", "check", "close", "index", "scan", "rank", "pack", "trace"]
    functions: list[tuple[str, str, int]] = []

    def make(units: int) -> tuple[str, str, str]:
        while len(functions) < units:
            name = f"{rng.choice(verbs)}_{rng.choice(nouns)}_{len(functions)}"
            called = rng.choice(functions)[0] if functions else "len"
            constant = rng.randrange(100, 1000)
            body = f"def {name}(items):\n    limit = {constant}\n    return {called}(items[:limit])\n"
            functions.append((name, body, constant))
        name, _, constant = functions[int(depth * (units - 1))]
        source = "\n\n".join(body for _, body, _ in functions[:units])
        question = f"In the Python module above, what is the value of `limit` in the function `{name}`?"
        return f"```python\n{source}```", question, str(constant)

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


def _template(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    if not tokenizer.chat_template:
        raise CaptureError("--chat: this tokenizer has no chat template; use --no-chat")
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]
