"""What a handler is given besides its args: who it is, and how it talks meanwhile."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack
from uuid import UUID

from pydantic import BaseModel

if TYPE_CHECKING:
    from lading.blocks import AsyncBlock, SyncBlock

T = TypeVar("T")
LogLevel = Literal["debug", "info", "warning", "error"]
STEP_NAME_LENGTH = 255  # characters; it is shown in a line, and part of an index


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the platform as a handler sees it: its bytes at `path`, to be read only."""

    id: UUID
    name: str  #: as the uploader called it; never a path
    size: int  #: bytes
    media_type: str
    path: Path


@dataclass(frozen=True, slots=True)
class Attempt:
    """The facts of one attempt: they do not change while it runs."""

    job_id: UUID
    kind: str
    attempt: int  #: 1, 2, …: the fence; counts every start
    failures: int  #: attempts of this job that failed before
    max_attempts: int  #: this many failures end the job
    labels: Mapping[str, str]


class EventAttributes(TypedDict, total=False):
    """What else can be said of an event that a handler publishes."""

    id: str | None  #: with the source it is the same event for ever; made up, if not given
    source: str | None  #: a URI reference; that of the job, if not given
    subject: str | None


class StepNames:
    """The names of steps and transactions that one attempt has used: one namespace for both."""

    def __init__(self) -> None:
        self._steps: set[str] = set()
        self._blocks: set[str] = set()

    def use(self, name: str) -> None:
        """A step's. ValueError: no such name is possible, or a transaction has it."""
        _check_step_name(name)
        if name in self._blocks:
            raise ValueError(f"{name!r} is the name of a transaction, so it cannot be a step's")
        self._steps.add(name)

    def enter(self, name: str) -> None:
        """A transaction's. ValueError: no such name is possible, or it has been used."""
        _check_step_name(name)
        if name in self._blocks or name in self._steps:
            raise ValueError(
                f"{name!r} has been used in this attempt: the names of steps and transactions are"
                " unique within a job"
            )
        self._blocks.add(name)

    def leave(self, name: str) -> None:
        """The transaction was rolled back: it may be made again."""
        self._blocks.discard(name)


def _check_step_name(name: object) -> None:
    if not (isinstance(name, str) and 0 < len(name) <= STEP_NAME_LENGTH and name.isprintable()):
        raise ValueError(
            f"{name!r:.300} is no name of a step: 1 … {STEP_NAME_LENGTH} printable characters"
        )


class BaseContext(ABC):
    """What both kinds of context share. Nothing here waits for a server, except the files."""

    def __init__(self, facts: Attempt) -> None:
        self._facts = facts

    @property
    def job_id(self) -> UUID:
        """The job's id: the same on every attempt."""
        return self._facts.job_id

    @property
    def attempt(self) -> int:
        """Which start of the job this is: 1, 2, …; never lowered, so it can fence writes."""
        return self._facts.attempt

    @property
    def failures(self) -> int:
        """How many attempts of this job have failed before this one."""
        return self._facts.failures

    @property
    def max_attempts(self) -> int:
        """How many failures end the job."""
        return self._facts.max_attempts

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure of this attempt would be the last one."""
        return self._facts.failures + 1 >= self._facts.max_attempts

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels the job was submitted with."""
        return self._facts.labels

    @property
    def idempotency_key(self) -> str:
        """For outside services: stable over the attempts of this job, different for any other."""
        return f"lading-{self._facts.job_id}"

    @abstractmethod
    def progress(self, fraction: float, message: str | None = None) -> None:
        """The job shows `fraction` (0 … 1, clamped). Never blocks; the newest value wins.

        Raises JobCancelled as `check` does.
        """

    @abstractmethod
    def log(self, level: LogLevel, message: str, **fields: Any) -> None:
        """The line stands in the job's log. Never blocks; `fields` must be JSON values."""

    @abstractmethod
    def check(self) -> None:
        """Nothing, or JobCancelled: a cancel was asked for, or this attempt lost the job."""

    @abstractmethod
    def file(self, file_id: UUID | str) -> StoredFile:
        """The stored file; Fail when there is none of that id."""

    @abstractmethod
    def save_file(self, path: Path, *, name: str, media_type: str) -> StoredFile:
        """The bytes at `path` are a file of the platform from now on; `path` may be moved away."""


class JobContext(BaseContext):
    """What a handler made with `def` is given."""

    @abstractmethod
    def step(self, name: str, function: Callable[[], T]) -> T:
        """The JSON result of `function`, which runs once only: a later attempt gets the stored one.

        `name` is unique within the job, transactions included. A crash between the end of
        `function` and the commit of its result makes it run again. Raises whatever `function`
        raises, storing nothing then; and JobCancelled when this attempt no longer owns the job.
        """

    @abstractmethod
    def transaction(self, name: str) -> "SyncBlock":
        """In a `with`: the block is done once, however often its job is attempted.

        The block's writes through its session (a SQLModel Session on LADING_DATABASE_URL), the step
        `name`, and children that it submits are committed together at the block's end, if this
        attempt still owns the job; else they are rolled back, and JobCancelled is raised. Whatever
        the block raises rolls them back, and passes. An attempt that finds the step stored skips
        the block: nothing of it runs, so what comes after must not need its variables.

        `name` is unique within the job, steps included; ValueError when this attempt has used it.
        """

    @abstractmethod
    def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        """A child job is accepted; `options` are the fields of a submission (queue, delay, …).

        The n-th submit of one job is the same child on every attempt, so that a retry makes none
        twice; inside a step or a transaction they are counted for themselves. Raises Fail when the
        kind is unknown, or something is refused.
        """

    @abstractmethod
    def publish(self, type_: str, data: Any = None, **attributes: Unpack[EventAttributes]) -> UUID:
        """An event is accepted, and soon meets its triggers: its address at the server.

        Inside a transaction it is committed with the block: exactly once. Elsewhere at least once:
        an attempt that is made again publishes again, but not an event whose `id` was given, for
        with the job as its source that is the same event. It counts the jobs that have led to it:
        one that more than 8 in a row have led to fires nothing. Raises Fail when it is refused.
        """


class AsyncJobContext(BaseContext):
    """What a handler made with `async def` is given: the same, with what waits awaited."""

    @abstractmethod
    async def step(self, name: str, function: Callable[[], T | Awaitable[T]]) -> T:
        """See JobContext.step; `function` may be a coroutine function."""

    @abstractmethod
    def transaction(self, name: str) -> "AsyncBlock":
        """See JobContext.transaction: `async with`, and a SQLModel AsyncSession."""

    @abstractmethod
    async def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        """See JobContext.submit."""

    @abstractmethod
    async def publish(
        self, type_: str, data: Any = None, **attributes: Unpack[EventAttributes]
    ) -> UUID:
        """See JobContext.publish."""
