"""Interrupted captures: nothing half-written passes for a trace, and the same command gives the same bytes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from safetensors import safe_open

from kvtier_capture import run
from kvtier_capture.cli import main

HERE = os.path.dirname(os.path.abspath(__file__))
# A prompt of 178 tokens in passes of 40: five of them, then six steps.
COMMON = ["--steps", "6", "--chunk", "40", "--window", "20", "--ignore-stop", "--quiet", "--checkpoint-seconds", "0"]
VARIANTS = {
    "plain": [],
    "int8": ["--quantise", "int8"],
    "sampled": ["--temperature", "1.0", "--seed", "3", "--fields", "k,kpre,vnorm,q,prefillMass", "--store", "bf16"],
}


class Cut(BaseException):
    """What no handler of the tool catches, as a kill would be."""


def command(model: str, prompt: str, out, *flags: str) -> list[str]:  # noqa: ANN001
    return ["--model", model, "--prompt-file", prompt, "--out", str(out), *COMMON, *flags]


def cut_after(monkeypatch, passes: int, error: BaseException) -> None:  # noqa: ANN001
    """Let so many passes of the run go through (the survey is one more), then fail in the middle of the next."""
    original, count = run._forward, iter(range(10**6))

    def forward(*arguments):  # noqa: ANN002, ANN202
        result = original(*arguments)
        if next(count) > passes:
            raise error
        return result

    monkeypatch.setattr(run, "_forward", forward)


def no_trace(path) -> bool:  # noqa: ANN001
    try:
        with safe_open(str(path), framework="pt"):
            return False
    except Exception:
        return True


@pytest.mark.parametrize(("kind", "variant", "passes"), [
    ("llama", "plain", 0), ("llama", "plain", 5), ("llama", "int8", 3), ("llama", "sampled", 8),
    ("gemma3", "plain", 3), ("gemma3", "int8", 9), ("gemma3", "sampled", 5),
])
def test_the_same_bytes_wherever_it_was_cut(kind, variant, passes, model_folder, prompt_file, tmp_path, monkeypatch):  # noqa: ANN001
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    flags = VARIANTS[variant]
    assert main(command(model_folder(kind), prompt_file, whole, *flags)) == 0
    with monkeypatch.context() as patch:
        cut_after(patch, passes, Cut())
        with pytest.raises(Cut):
            main(command(model_folder(kind), prompt_file, cut, *flags))
    assert not cut.exists()
    assert no_trace(f"{cut}.partial")
    with monkeypatch.context() as patch:
        # Of 11 passes only those after the last checkpoint may run again.
        cut_after(patch, 11 - passes, Cut())
        assert main(command(model_folder(kind), prompt_file, cut, *flags)) == 0
    assert cut.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.safetensors", "prompt.txt", "whole.safetensors"]


def test_cut_while_packing_or_verifying(model_folder, prompt_file, tmp_path, monkeypatch):  # noqa: ANN001
    from kvtier_capture import session

    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    flags = ["--verify", "--quantise", "int8-per-token"]
    assert main(command(model_folder("llama"), prompt_file, whole, *flags)) == 0
    for part in ("pack", "verify", "publish"):
        with monkeypatch.context() as patch:
            patch.setattr(session, part, lambda *_: (_ for _ in ()).throw(Cut()))
            with pytest.raises(Cut):
                main(command(model_folder("llama"), prompt_file, cut, *flags))
        assert not cut.exists()
        assert no_trace(f"{cut}.partial")
    with monkeypatch.context() as patch:
        cut_after(patch, 0, Cut())  # nothing is run again
        assert main(command(model_folder("llama"), prompt_file, cut, *flags)) == 0
    assert cut.read_bytes() == whole.read_bytes()


def test_killed_and_run_again(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    flags = ["--steps", "60", "--checkpoint-seconds", "60"]
    assert main(command(model_folder("qwen2"), prompt_file, whole, *flags)) == 0
    begun = command(model_folder("qwen2"), prompt_file, cut, *flags, "--checkpoint-seconds", "0")
    child = subprocess.Popen([sys.executable, "-m", "kvtier_capture", *begun], cwd=os.path.dirname(HERE))
    state = f"{cut}.partial.state"
    deadline = time.monotonic() + 60
    while not os.path.exists(state) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not cut.exists()
    assert no_trace(f"{cut}.partial")
    assert os.path.exists(state)
    assert main(command(model_folder("qwen2"), prompt_file, cut, *flags)) == 0
    assert cut.read_bytes() == whole.read_bytes()


def test_interrupted_by_hand(model_folder, prompt_file, tmp_path, monkeypatch, capsys):  # noqa: ANN001
    out = tmp_path / "a.safetensors"
    cut_after(monkeypatch, 4, KeyboardInterrupt())
    assert main(command(model_folder("llama"), prompt_file, out)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == ["kvtier-capture: interrupted after 160 of 184 tokens: run the same command again, "
                     "it goes on from the last checkpoint"]
    assert no_trace(f"{out}.partial")


def test_other_flags_are_refused_and_restart_begins_anew(model_folder, prompt_file, tmp_path, monkeypatch, capsys):  # noqa: ANN001
    out, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    with monkeypatch.context() as patch:
        cut_after(patch, 4, KeyboardInterrupt())
        assert main(command(model_folder("llama"), prompt_file, out)) == 1
    capsys.readouterr()
    changed = command(model_folder("llama"), prompt_file, out, "--window", "10")
    assert main(changed) == 2
    assert "an unfinished capture with another window: finish it with its own flags" in capsys.readouterr().err
    assert main([*changed, "--restart"]) == 0
    assert main(command(model_folder("llama"), prompt_file, other, "--window", "10")) == 0
    assert out.read_bytes() == other.read_bytes()


def test_a_state_that_is_none_is_refused(model_folder, prompt_file, tmp_path, capsys):  # noqa: ANN001
    out = tmp_path / "a.safetensors"
    (tmp_path / "a.safetensors.partial.state").write_bytes(b"not a state")
    assert main(command(model_folder("llama"), prompt_file, out)) == 2
    assert "not the state of a capture" in capsys.readouterr().err


@pytest.mark.parametrize("room", [20_000, 200_000])
def test_a_disk_that_fills_up(room, model_folder, prompt_file, tmp_path, monkeypatch, capsys):  # noqa: ANN001
    """A file system that cannot reserve, and that is full after so many bytes."""
    whole, out = tmp_path / "whole.safetensors", tmp_path / "a.safetensors"
    flags = ["--store", "f32"]
    assert main(command(model_folder("llama"), prompt_file, whole, *flags)) == 0
    capsys.readouterr()
    original, written = os.pwrite, [0]

    def pwrite(file: int, data, at: int) -> int:  # noqa: ANN001
        if written[0] >= room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = memoryview(data)[: room - written[0]]
        written[0] += len(part)
        return original(file, part, at)

    def reserve(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        patch.setattr(os, "posix_fallocate", reserve)
        assert main(command(model_folder("llama"), prompt_file, out, *flags)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == [f"kvtier-capture: {out}.partial: No space left on device: free some space and run the same command "
                     "again, it goes on where it stopped"]
    assert not out.exists()
    assert os.path.exists(f"{out}.partial")
    assert no_trace(f"{out}.partial")
    assert main(command(model_folder("llama"), prompt_file, out, *flags)) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_limit_on_file_size_is_met_before_the_work(model_folder, prompt_file, tmp_path):  # noqa: ANN001
    out = tmp_path / "a.safetensors"
    child = subprocess.run(
        [sys.executable, "-m", "kvtier_capture", *command(model_folder("llama"), prompt_file, out)],
        cwd=os.path.dirname(HERE), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),  # noqa: PLW1509
    )
    assert child.returncode == 1
    (line,) = child.stderr.strip().splitlines()
    assert "File too large: free some space" in line
    assert "bytes are needed" in line
    assert [path.name for path in tmp_path.iterdir()] == ["prompt.txt"]


def test_a_small_disk_holds_the_partial_file_but_not_the_state(model_folder, prompt_file, tmp_path, capsys):  # noqa: ANN001
    whole, disk = tmp_path / "whole.safetensors", tmp_path / "disk"
    disk.mkdir()
    assert main(command(model_folder("llama"), prompt_file, whole)) == 0
    size = whole.stat().st_size
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size + 65536}", "tmpfs", str(disk)], check=False,
                             capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small file system")
    try:
        out = disk / "a.safetensors"
        capsys.readouterr()
        assert main(command(model_folder("llama"), prompt_file, out)) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "a.safetensors.partial.state: No space left on device" in line
        assert no_trace(f"{out}.partial")
        assert not os.path.exists(f"{out}.partial.state.new")
        subprocess.run(["mount", "-o", f"remount,size={8 * size}", str(disk)], check=True)
        assert main(command(model_folder("llama"), prompt_file, out)) == 0
        assert out.read_bytes() == whole.read_bytes()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
