"""Which TCP ports are ours to take."""

import errno
import secrets
import socket
from collections.abc import Collection

from dev.errors import DevError

LOOPBACK = "127.0.0.1"
_OURS = range(16384, 32768)  # Linux takes outgoing ports from 32768 on, macOS from 49152
_TRIES = 50


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on right now; the next moment it may be taken.

    It lies below those that systems give to outgoing connections: a server that is started again
    finds its port as it has left it, and no client of its own has got connected to itself there.
    """
    for _ in range(_TRIES):
        port = secrets.choice(_OURS)
        if is_free(port, host):
            return port
    with socket.create_server((host, 0), family=_family(host)) as probe:
        taken: int = probe.getsockname()[1]
        return taken


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could bind to the port; connections that linger there do not count.

    Raises DevError where nobody can listen on that host, or not with our rights on that port.
    """
    try:
        with socket.create_server((host, port), family=_family(host)):
            return True
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise DevError(f"Nothing can listen on {host}, port {port}: {error}") from error


def is_open(port: int, host: str = LOOPBACK, timeout: float = 1) -> bool:
    """Whether somebody accepts connections there. `timeout` in seconds."""
    try:
        with socket.create_connection((host, port), timeout):
            return True
    except OSError:
        return False


def choose_port(
    explicit: str | None,
    default: int,
    variable: str,
    host: str = LOOPBACK,
    taken: Collection[int] = (),
) -> int:
    """The explicit port; else the default one, or a free one where that is taken.

    Raises DevError when the explicit one is no port or is taken: whoever names a port relies on it.
    """
    if not explicit:
        return default if default not in taken and is_free(default, host) else free_port(host)
    if not explicit.isascii() or not explicit.isdigit() or not 0 < int(explicit) < 2**16:
        raise DevError(f"{variable}={explicit} is no port: give a number from 1 to 65535")
    if int(explicit) in taken or not is_free(int(explicit), host):
        raise DevError(f"{variable}={explicit} is taken: another program listens on {host} there")
    return int(explicit)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
