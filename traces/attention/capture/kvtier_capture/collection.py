"""Captures the six tasks with one model, by one command: what the shipped samples were taken from, and the rest.

`python -m kvtier_capture.collection --books FOLDER --out FOLDER --gguf FILE --device cuda …`: flags that it does not
know go to every capture. What is there already is kept, what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass

from .cli import main as capture
from .compact import main as compact


@dataclass(frozen=True)
class Item:
    task: str
    book: str
    title: str
    seed: int
    depth: float
    steps: int
    temperature: float = 0.0


# Other books and seeds for each task, so that no two prompts share a text. A small model that always takes the
# likeliest token soon repeats itself: the long answer is sampled.
ITEMS = (
    Item("needle", "mansfieldpark", "Mansfield Park (1814)", 1, 0.15, 128),
    Item("multi-hop", "emma", "Emma (1815)", 2, 0.1, 128),
    Item("code", "prideprejudice", "Pride and Prejudice (1813)", 3, 0.2, 128),
    Item("kv-retrieval", "persuasion", "Persuasion (1817)", 4, 0.3, 64),
    Item("dialogue", "sensesensibility", "Sense and Sensibility (1811)", 5, 0.2, 128),
    Item("long-generation", "persuasion", "Persuasion (1817)", 6, 0.5, 1024, 0.8),
)


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="kvtier_capture.collection", description=__doc__.split("\n")[0])
    p.add_argument("--books", required=True, help="folder with the novels of Jane Austen as emma.txt, persuasion.txt …")
    p.add_argument("--out", required=True, help="folder for NAME-TASK.safetensors")
    p.add_argument("--name", required=True, help="model name in the traces and the files")
    p.add_argument("--context", type=int, default=32000, help="tokens of prompt and steps together (default 32000)")
    p.add_argument("--tasks", default=",".join(item.task for item in ITEMS), help="some of the six (default all)")
    p.add_argument("--steps", type=int, help="decode steps (default: each task's own)")
    p.add_argument("--compact", help="layers such as 9,16: of each trace also NAME-TASK-compact.safetensors with these, int8")
    flags, rest = p.parse_known_args(argv)
    chosen = flags.tasks.split(",")
    unknown = [task for task in chosen if task not in {item.task for item in ITEMS}]
    if unknown:
        print(f"kvtier_capture.collection: --tasks {unknown[0]}: expected some of {', '.join(i.task for i in ITEMS)}",
              file=sys.stderr)
        return 2
    for item in ITEMS:
        path = os.path.join(flags.out, f"{flags.name}-{item.task}.safetensors")
        if item.task not in chosen:
            continue
        if not os.path.exists(path):
            code = capture([*_arguments(item, flags), *rest, "--out", path])
            if code != 0:
                return code
        small = path.removesuffix(".safetensors") + "-compact.safetensors"
        if flags.compact is not None and not os.path.exists(small):
            code = compact([path, "--layers", flags.compact, "--out", small])
            if code != 0:
                return code
    return 0


def _arguments(item: Item, flags: argparse.Namespace) -> list[str]:
    return [
        "--task", item.task, "--text", os.path.join(flags.books, f"{item.book}.txt"), "--context", str(flags.context),
        "--seed", str(item.seed), "--depth", str(item.depth), "--steps", str(flags.steps or item.steps),
        "--temperature", str(item.temperature), "--ignore-stop", "--verify", "--name", flags.name,
        "--prompt-source", f"made from Jane Austen, {item.title}, text of the R package janeaustenr 1.0.0",
        "--prompt-licence", "public domain",
    ]


if __name__ == "__main__":
    sys.exit(main())
