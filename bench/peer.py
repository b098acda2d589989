"""What a peer is: how it is installed, started and asked, and what it promises."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".bench"  # git-ignored
LADING = "lading"


@dataclass(frozen=True, slots=True)
class Rows:
    """Unfinished jobs, counted by SQL."""

    query: str


@dataclass(frozen=True, slots=True)
class Members:
    """Unfinished jobs are the members of a sorted set in Redis."""

    key: str


@dataclass(frozen=True, slots=True)
class Results:
    """Finished jobs are the keys of a database of Redis."""

    database: int = 1


Left = Rows | Members | Results


@dataclass(frozen=True, slots=True)
class Promise:
    """What its users are told, short enough for a table."""

    lives_in: str  #: where an accepted job is
    worker_killed: str  #: kill -9 of a worker that holds the job
    redis_lost: str  #: Redis is gone with its data
    status: str  #: what can be read of a job, and for how long


@dataclass(frozen=True, slots=True)
class Peer:
    """One row."""

    name: str
    title: str
    folder: str  #: below peers/, and its virtual environment
    prepare: str | None  #: a command that makes the tables
    workers: tuple[str, ...]  #: commands; the first word is a program of the venv
    io_workers: tuple[str, ...]  #: in their place for jobs that wait
    io_slots: int  #: how many of these they have in flight
    left: Left
    promise: Promise
    final: frozenset[str]  #: values of `status` (ours: `state`)
    path: str = "/jobs"
    batch_path: str | None = None  #: where many jobs are submitted at once
    kind: str | None = None  #: ours; peers know one kind only
    io_kind: str | None = None
    api: str = "web:app"
    api_options: str = ""  #: of uvicorn
    dispatcher: str | None = None  #: a command
    environment: Mapping[str, str] = field(default_factory=dict)  #: of all of it

    @property
    def is_ours(self) -> bool:
        return self.name == LADING

    @property
    def binaries(self) -> Path:
        """Where its programs are."""
        return Path(sys.executable).parent if self.is_ours else CACHE / self.folder / "bin"

    @property
    def home(self) -> Path:
        """Where its programs start."""
        return ROOT if self.is_ours else ROOT / "bench" / "peers" / self.folder

    def pythonpath(self) -> str:
        """Where its modules are found."""
        places = [ROOT] if self.is_ours else [self.home, ROOT / "bench" / "job"]
        return os.pathsep.join(map(str, places))
