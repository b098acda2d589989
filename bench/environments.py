"""A virtual environment for each peer, made once, and again when its requirements have changed."""

import shutil
import subprocess
import sys
from pathlib import Path

from bench.peer import Peer


def install(peer: Peer) -> None:
    """Its programs can be started. CalledProcessError where its packages cannot be had."""
    if peer.is_ours:
        return
    folder, wanted = peer.binaries.parent, peer.home / "requirements.txt"
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return
    print(f"Installing {peer.title} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    uv, python = _uv(), str(folder / "bin" / "python")
    if uv:
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", python, "-r", str(wanted))
    else:
        _run(sys.executable, "-m", "venv", str(folder))
        _run(python, "-m", "pip", "install", "--quiet", "-r", str(wanted))
    stamp.write_text(wanted.read_text())


def _uv() -> str | None:
    beside = Path(sys.executable).parent / "uv"  # one of the test requirements
    return str(beside) if beside.exists() else shutil.which("uv")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603
