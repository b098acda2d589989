"""dev.json and the banner: what is told of a running Lading. Its words are the contract's."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The content of dev.json; a pid is None where the server is not ours."""

    api: str
    flower: str
    flower_auth: str
    mail: str
    key: str
    database_url: str
    broker_url: str
    smtp: str
    pids: Mapping[str, int | None]

    def write(self, path: Path) -> None:
        """The file is there, for its owner only; a reader sees the old one or the new one whole."""
        write_privately(path, json.dumps(asdict(self), indent=2) + "\n")

    def banner(self) -> str:
        """What the person who typed `make dev` is waiting for."""
        remarks = {
            "API": (self.api, "(docs at /docs)"),
            "Flower": (self.flower, f"(user and password: {self.flower_auth})"),
            "Mail": (self.mail, ""),
            "Key": (self.key, ""),
        }
        width = max(len(self.api), len(self.flower))
        lines = [
            f"  {name:<6}   {value:<{width}}      {remark}".rstrip()
            for name, (value, remark) in remarks.items()
        ]
        return "\n".join(["Lading is ready", *lines])


def write_privately(path: Path, text: str) -> None:
    """The file holds the text and is its owner's alone, at no moment more or less."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
