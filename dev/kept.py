"""The data directory: whose it is, and the secrets that are kept in it from start to start."""

import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from dev.errors import DevError
from dev.record import write_privately

_PREVIOUS_ENDS_WITHIN = 15.0  # seconds; its watchdog needs six at most


class DataDirectory:
    """Held by one supervisor at a time, from `claim` to the end of its process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / "dev.json"
        self.logs = path / "logs"

    def claim(self) -> int:
        """It is ours, and no old dev.json is in it; returns the file descriptor of the lock.

        Raises DevError where another supervisor has it. One that was killed has left it to its
        watchdog, which is waited for.
        """
        # Root's PostgreSQL runs as another account, which must get through to its own folder.
        self.path.mkdir(mode=0o700 if os.geteuid() else 0o711, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _PREVIOUS_ENDS_WITHIN
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = int(os.pread(descriptor, 20, 0) or b"0")
                if psutil.pid_exists(holder) or time.monotonic() > deadline:
                    raise DevError(self._held_by(holder)) from None
                time.sleep(0.1)
            else:
                break
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self.record.unlink(missing_ok=True)
        return descriptor

    def log(self, name: str) -> Path:
        """A child's log of this start; that of the start before is kept beside it."""
        path = self.logs / f"{name}.log"
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
        return path

    def secret(self, name: str) -> str:
        """Made at the first start, the same at every later one."""
        path = self.path / name
        if not path.exists():
            write_privately(path, secrets.token_hex(16))
        return path.read_text().strip()

    def api_key(self, environment: Mapping[str, str]) -> str:
        """A key that the database knows: the kept one, or a new one where it does not."""
        path = self.path / "key"
        if path.exists():
            key = path.read_text().strip()
            if _keys("check", environment=environment, given=key).returncode == 0:
                return key
        made = _keys("create", "--name", "dev", environment=environment)
        if made.returncode:
            raise DevError(f"No API key could be made:\n{made.stderr}")
        key = made.stdout.strip()
        write_privately(path, key)
        return key

    def _held_by(self, pid: int) -> str:
        return (
            f"Lading already runs on {self.path} (process {pid}): stop it first, or name another"
            " folder in LADING_DATA_DIR"
        )


def _keys(
    *arguments: str, environment: Mapping[str, str], given: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.keys", *arguments],
        check=False,
        env={**os.environ, **environment},
        input=given,
        capture_output=True,
        text=True,
    )
