"""Six long-context tasks, each made from a seed, a size and (most of them) the sentences of a book.

Promise: same sentences, seed, depth and size, same text; every passage that the answer depends on is known. Retrieval
heads fire only when the answer lies far back, so each task hides facts early and asks at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One size of a task: the conversation, the question at its end, the answer and the passages that hold it."""

    messages: list[dict[str, str]]
    question: str
    answer: str | None = None
    """What a right answer contains; None where there is no right one."""
    evidence: tuple[str, ...] = ()
    continues: bool = False
    """Without a chat template, the text is to be continued as it stands: no `Answer:` after it."""


Make = Callable[[int], Case]
"""Builds the case of so many units (sentences, pairs, functions)."""


def sentences_of(book: str) -> list[str]:
    marked = " ".join(book.split())
    for end in ("! ", "? ", ". "):
        marked = marked.replace(end, f"{end[0]}\n")
    return [sentence for sentence in marked.split("\n") if sentence.strip()]


def _single(body: str, question: str, answer: str | None, *evidence: str, continues: bool = False) -> Case:
    return Case([{"role": "user", "content": f"{body}\n\n{question}"}], question, answer, evidence, continues)


def needle(sentences: list[str], depth: float, rng: random.Random) -> Make:
    """One strange sentence in a book, and a question about it."""
    place = rng.choice(["Lyme Regis", "Dunwich", "Whitby", "Aldeburgh", "Falmouth"])
    thing = rng.choice(["silver lantern", "copper telescope", "green umbrella", "walnut violin"])
    sentence = f"The {thing} that everybody was looking for had been left in the old lighthouse of {place}."
    question = f"According to the text above, where had the {thing} been left? Answer, then explain in a few sentences."

    def make(units: int) -> Case:
        part = sentences[:units]
        at = int(depth * len(part))
        return _single(" ".join([*part[:at], sentence, *part[at:]]), question, place, sentence)

    return make


def multi_hop(sentences: list[str], depth: float, rng: random.Random) -> Make:
    """Three sentences, in a shuffled order and far apart in a book, that only together hold the answer."""
    thing = rng.choice(["silver lantern", "copper telescope", "green umbrella", "walnut violin"])
    person = rng.choice(["Mr. Penhallow", "Miss Trevanion", "Dr. Ashgrove", "Mrs. Quillinan"])
    inn = rng.choice(["Blue Pelican", "Seven Anchors", "Weathercock", "Jolly Miller"])
    town = rng.choice(["Lyme Regis", "Dunwich", "Whitby", "Aldeburgh", "Falmouth"])
    facts = [
        f"The {thing} was given into the keeping of {person}.",
        f"{person} had lately taken rooms at the {inn}.",
        f"The inn called the {inn} stands beside the harbour of {town}.",
    ]
    question = (
        f"According to the text above: who keeps the {thing}, at which inn does that person live, and in which town "
        "is the inn? Name all three, then say how you found them."
    )
    order = rng.sample(range(3), 3)

    def make(units: int) -> Case:
        part = sentences[:units]
        # From `depth` on, a third of what follows lies between one fact and the next.
        places = [int((depth + (1 - depth) * i / 3) * len(part)) for i in range(3)]
        for at, fact in sorted(zip(places, order, strict=True), reverse=True):
            part = [*part[:at], facts[fact], *part[at:]]
        return _single(" ".join(part), question, town, *facts)

    return make


def dialogue(sentences: list[str], depth: float, rng: random.Random) -> Make:
    """A reader pastes a book turn by turn, says something personal in one of the turns, and asks for it at the end."""
    name = rng.choice(["Eleanor", "Cassandra", "Harriet", "Frederick", "Augusta"])
    town = rng.choice(["Lisbon", "Trieste", "Bergen", "Cairo", "Quebec"])
    fact = f"By the way, I am reading this on the train to {town}, where my sister {name} lives."
    question = "Which town is my train going to, and who lives there? Then say what you think of the book."
    turn = 12

    def make(units: int) -> Case:
        parts = [sentences[i : min(i + turn, units)] for i in range(0, units, turn)]
        told = min(int(depth * len(parts)), len(parts) - 1)
        messages = []
        for number, part in enumerate(parts):
            said = " ".join([*part, f"\n\n{fact}"] if number == told else part)
            opening = " ".join(part[0].split()[:8])
            messages.append({"role": "user", "content": f"Here is part {number + 1}:\n\n{said}"})
            reply = f"Thank you, I have read part {number + 1}, which begins with “{opening} …”."
            messages.append({"role": "assistant", "content": reply})
        return Case([*messages, {"role": "user", "content": question}], question, town, (fact,))

    return make


def kv_retrieval(depth: float, rng: random.Random) -> Make:
    """A table of random keys and values; one of the values is asked for."""
    pairs: list[tuple[str, str]] = []

    def make(units: int) -> Case:
        while len(pairs) < units:
            pairs.append((f"{rng.getrandbits(20):05x}", f"{rng.getrandbits(20):05x}"))
        key, value = pairs[int(depth * (units - 1))]
        lines = "\n".join(f'"{k}": "{v}"' for k, v in pairs[:units])
        body = f"Below is a table of keys and values.\n\n{lines}"
        return _single(body, f'What is the value of the key "{key}"?', value, f'"{key}": "{value}"')

    return make


def code(sentences: list[str], depth: float, rng: random.Random) -> Make:
    """A Python module whose functions call each other; the answer is two references away from what is asked for."""
    nouns = ["ledger", "harbor", "signal", "orchard", "cabinet", "meadow", "lantern", "engine", "garden", "archive"]
    verbs = ["load", "count", "merge", "check", "close", "index", "scan", "rank", "pack", "trace"]
    functions: list[_Function] = []

    def make(units: int) -> Case:
        while len(functions) < units + 1:
            number = len(functions)
            name = f"{rng.choice(verbs)}_{rng.choice(nouns)}_{number}"
            calls = functions[rng.randrange(number)].name if functions else "sorted"
            # Comments are a book's sentences where there is one, so that the module is not all alike.
            comment = sentences[number % len(sentences)].replace('"', "'")[:120] if sentences else f"Part {number}."
            functions.append(_Function(name, f"LIMIT_{rng.randrange(10**6):06d}", rng.randrange(100, 1000), calls, comment))
        target = functions[int(depth * (units - 1))]
        # The caller comes last: from the question one reads back to it, to the function, and to its constant.
        caller = _Function(f"start_{functions[units].name}", "LIMIT_FINAL", 7, target.name, "The entry point.")
        source = "\n\n".join(f.source() for f in [*functions[:units], caller])
        question = (
            f"In the Python module above, `{caller.name}` calls one other function. Which constant limits that other "
            "function, and what is the value of the constant?"
        )
        evidence = (target.source(), caller.source())
        return _single(f"```python\n{source}```", question, str(target.value), *evidence)

    return make


@dataclass(frozen=True)
class _Function:
    name: str
    constant: str
    value: int
    calls: str
    comment: str

    def source(self) -> str:
        return (
            f'{self.constant} = {self.value}\n\n\ndef {self.name}(items):\n    """{self.comment}"""\n'
            f"    chosen = [item for item in items if item < {self.constant}]\n    return {self.calls}(chosen)\n"
        )


def long_generation(sentences: list[str], _depth: float, rng: random.Random) -> Make:
    """A book, to be continued at length: what attention does while the answer itself grows."""
    what = rng.choice(["a visit to the sea", "a lost letter", "a ball", "a journey in winter", "an unexpected guest"])
    question = f"Continue the story above with a long new chapter about {what}. Keep its style and its people."

    def make(units: int) -> Case:
        return _single(" ".join(sentences[:units]), question, None, continues=True)

    return make
