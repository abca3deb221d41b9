"""Writes traces/attention/fixtures/: a tiny trace of a random-weights model, its int8 twin, and reference rows.

The reader in TypeScript is tested against the rows, which torch computes here from the written files.
Run from traces/attention/capture: python tests/make_fixtures.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from conftest import make_model  # noqa: E402
from kvtier_capture.cli import main  # noqa: E402
from kvtier_capture.trace_file import TraceFile  # noqa: E402

OUT = os.path.join(os.path.dirname(os.path.dirname(HERE)), "fixtures")
PROMPT = "Stay, wanderer, and count the lamps along the quay: one is lit for every ship that is still out."


def rows(path: str) -> list[dict]:
    """Five heaviest positions of every recorded (layer, head) at the first, a middle and the last step."""
    trace = TraceFile(path)
    steps = trace.metadata["steps"]
    found = []
    for layer in trace.metadata["recordedLayers"]:
        values = trace.tensor("v", layer)
        for step in (0, steps // 2, steps - 1):
            mass = trace.probabilities(layer, step)
            group = mass.shape[0] // values.shape[0]
            for head in range(mass.shape[0]):
                top = torch.topk(mass[head], 5)
                output = mass[head] @ values[head // group, : mass.shape[1]]
                found.append({
                    "layer": layer, "step": step, "head": head, "positions": top.indices.tolist(),
                    "probabilities": [round(p, 7) for p in top.values.tolist()],
                    "output": [round(x, 6) for x in output[:4].tolist()],
                })
    return found


def sums(path: str) -> list[dict]:
    """Samples of the dequantised tensors, so that a wrong stride or scale shows even where the softmax hides it."""
    trace = TraceFile(path)
    found = []
    for layer in trace.metadata["recordedLayers"]:
        for field in trace.metadata["fields"]:
            x = trace.tensor(field, layer)
            found.append({
                "layer": layer, "field": field, "shape": list(x.shape), "sum": round(float(x.double().sum()), 4),
                "first": [round(v, 6) for v in x.flatten()[:3].tolist()],
                "last": [round(v, 6) for v in x.flatten()[-3:].tolist()],
            })
    return found


def make(kind: str, name: str, *flags: str) -> dict:
    path = os.path.join(OUT, f"{name}.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(kind, os.path.join(folder, f"random-{kind}"))
        prompt = os.path.join(folder, "fixture-prompt.txt")
        with open(prompt, "w", encoding="utf-8") as file:
            file.write(PROMPT)
        code = main([
            "--model", model, "--prompt-file", prompt, "--no-chat", "--steps", "8", "--window", "16", "--chunk", "40",
            "--layers", "1,2", "--ignore-stop", "--verify", "--name", f"random-{kind}", "--source",
            "random weights, seed 7 (tests/conftest.py)", "--prompt-source", "written for this fixture",
            "--prompt-licence", "Apache-2.0", "--model-licence", "Apache-2.0", "--out", path, *flags,
        ])
    if code != 0:
        sys.exit(code)
    return {"file": f"{name}.safetensors", "rows": rows(path), "tensors": sums(path)}


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    reference = {
        "tool": "tests/make_fixtures.py", "note": "probabilities and outputs computed in torch float32 from the files",
        "traces": [make("llama", "tiny"), make("llama", "tiny-int8", "--quantise", "int8"),
                   make("gemma3", "tiny-sliding", "--fields", "k,kpre,v,q", "--store", "bf16",
                        "--quantise", "int8-per-channel")],
    }
    with open(os.path.join(OUT, "reference.json"), "w", encoding="utf-8") as file:
        json.dump(reference, file, separators=(",", ":"))
        file.write("\n")
