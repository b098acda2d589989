"""What `make dev` takes from the environment (docs/reference names each variable)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dev.errors import DevError
from dev.ports import LOOPBACK, choose_port, free_port


class _Wish(NamedTuple):
    variable: str
    default: int
    what: str


_WISHES = (
    _Wish("LADING_PORT", 8000, "the API"),
    _Wish("LADING_FLOWER_PORT", 5555, "Flower"),
    _Wish("LADING_MAIL_PORT", 8025, "the mail catcher"),  # where others of its trade are, too
)
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, never chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Chosen once per start; ports are free when they are chosen."""

    host: str
    data_dir: Path
    port: int
    flower_port: int
    mail_port: int
    smtp_port: int
    database_url: str | None  #: of a server that is not ours
    broker_url: str | None  #: likewise
    worker_concurrency: int
    worker_io_concurrency: int
    reload: bool
    notes: tuple[str, ...]  #: what was chosen otherwise than by default

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Options":
        """Raises DevError where a variable cannot be followed."""
        host = environment.get("LADING_HOST") or LOOPBACK
        ports = _choose_ports(environment, host)
        notes = [
            f"Port {wish.default} is taken: {wish.what} is on {ports[wish.variable]}"
            for wish in _WISHES
            if wish.default != ports[wish.variable] and not environment.get(wish.variable)
        ]
        return cls(
            host=host,
            data_dir=cls.data_dir_of(environment),
            port=ports["LADING_PORT"],
            flower_port=ports["LADING_FLOWER_PORT"],
            mail_port=ports["LADING_MAIL_PORT"],
            smtp_port=free_port(),  # nobody needs to know it
            database_url=environment.get("LADING_DATABASE_URL") or None,
            broker_url=environment.get("LADING_BROKER_URL") or None,
            worker_concurrency=_count(environment, "LADING_WORKER_CONCURRENCY", 2),
            worker_io_concurrency=_count(environment, "LADING_WORKER_IO_CONCURRENCY", 100),
            reload=environment.get("LADING_RELOAD", "") not in {"", "0", "false", "no"},
            notes=tuple(notes),
        )

    @staticmethod
    def data_dir_of(environment: Mapping[str, str]) -> Path:
        """Where all is kept; known before any port is chosen."""
        return Path(environment.get("LADING_DATA_DIR") or ".lading").absolute()

    @property
    def mail_url(self) -> str:
        """The mail catcher's page; on this machine only, whatever `host` is."""
        return f"http://{LOOPBACK}:{self.mail_port}"

    @property
    def smtp(self) -> str:
        """Where it takes mails."""
        return f"{LOOPBACK}:{self.smtp_port}"

    def url_of(self, port: int) -> str:
        """Where a browser on this machine finds what listens on `host`."""
        host = LOOPBACK if self.host in _WILDCARDS else self.host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _choose_ports(environment: Mapping[str, str], host: str) -> dict[str, int]:
    """By variable. The explicit ones are taken first, so that no default comes before them."""
    ports: dict[str, int] = {}
    for wish in sorted(_WISHES, key=lambda wish: not environment.get(wish.variable)):
        explicit = environment.get(wish.variable)
        taken = ports.values()
        ports[wish.variable] = choose_port(explicit, wish.default, wish.variable, host, taken)
    return ports


def _count(environment: Mapping[str, str], variable: str, default: int) -> int:
    value = environment.get(variable) or str(default)
    if not value.isascii() or not value.isdigit() or not int(value):
        raise DevError(f"{variable}={value} is no number of slots: give 1 or more")
    return int(value)
