"""Run a handler in a test, with a context that records and without any server."""

import asyncio
import inspect
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast
from uuid import UUID, uuid4

from pydantic import BaseModel

from lading.authoring import Kind, find_kind
from lading.context import (
    AsyncJobContext,
    Attempt,
    BaseContext,
    EventAttributes,
    JobContext,
    LogLevel,
    StepNames,
    StoredFile,
)
from lading.outcomes import Cancel, Fail, JobCancelled, JobTimeout, Retry

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from lading.rehearsal import RehearsedAwaitedBlock, RehearsedBlock, Stage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Submitted:
    """A child job that the handler asked for."""

    id: UUID
    kind: str
    args: Mapping[str, Any]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Published:
    """An event that the handler has published."""

    id: UUID
    type: str
    data: Any
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class Run:
    """What one attempt did. `outcome` is the word an attempt of a real job would carry."""

    outcome: str = "succeeded"  #: succeeded, retried, failed or cancelled
    result: Any = None  #: the JSON that would be stored
    error: BaseException | None = None  #: what the handler raised
    progress: list[tuple[float, str | None]] = field(default_factory=list)
    logs: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    steps: dict[str, Any] = field(default_factory=dict)  #: transactions have None
    submitted: list[Submitted] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    files: dict[UUID, StoredFile] = field(default_factory=dict)  #: given and saved ones


def run(
    function: Callable[..., Any],
    args: BaseModel | Mapping[str, Any],
    *,
    attempt: int = 1,
    failures: int = 0,
    labels: Mapping[str, str] | None = None,
    job_id: UUID | None = None,
    files: Mapping[UUID, Path] | None = None,
    steps: Mapping[str, Any] | None = None,
    cancelled: bool = False,
    engine: "Engine | None" = None,
) -> Run:
    """One attempt of the handler, run here and now.

    `args` are validated as at a submission (pydantic.ValidationError). `files` are the stored files
    that it may open, by id; `steps` those an earlier attempt has stored; `cancelled`: a cancel has
    been asked for. What the handler raises stands in the result, as its outcome would. Saved files
    lie in a temporary folder that the caller may delete. Transactions are made on `engine`, if none
    is given on an empty SQLite in memory; they need SQLModel, and the step of a transaction that
    was committed stands in the result.
    """
    kind = find_kind(function)
    if kind is None:
        raise TypeError(f"{function!r} was not made with @job")
    facts = Attempt(
        job_id or uuid4(), kind.name, attempt, failures, kind.max_attempts, dict(labels or {})
    )
    record = Run(steps=dict(steps or {}))
    for file_id, path in (files or {}).items():
        record.files[file_id] = _stored(file_id, path, path.name, "application/octet-stream")
    raw = args.model_dump(mode="python", by_alias=True) if isinstance(args, BaseModel) else args
    validated = kind.args_model.model_validate(raw)
    recorder = _AsyncRecorder if kind.is_async else _Recorder
    _attempt(kind, recorder(facts, record, cancelled, engine), validated, record)
    return record


def _attempt(kind: Kind, context: "_Recording", args: BaseModel, record: Run) -> None:
    try:
        value = cast("Callable[..., Any]", kind.handler)(context, args)
        if kind.is_async:
            value = asyncio.run(value)
        record.result = kind.result_adapter.dump_python(value, mode="json")
    except (Cancel, JobCancelled) as error:
        record.outcome, record.error = "cancelled", error
    except Fail as error:
        record.outcome, record.error = "failed", error
    except (Retry, JobTimeout, Exception) as error:  # noqa: BLE001 - any of them is an outcome
        record.outcome = "failed" if context.is_last_attempt else "retried"
        record.error = error


def _stored(file_id: UUID, path: Path, name: str, media_type: str) -> StoredFile:
    return StoredFile(file_id, name, path.stat().st_size, media_type, path)


class _Recording(BaseContext):
    def __init__(
        self, facts: Attempt, record: Run, cancelled: bool, engine: "Engine | None" = None
    ) -> None:
        super().__init__(facts)
        self._record, self._cancelled, self._engine = record, cancelled, engine
        self._names = StepNames()

    def progress(self, fraction: float, message: str | None = None) -> None:
        self.check()
        self._record.progress.append((min(max(fraction, 0.0), 1.0), message))

    def log(self, level: LogLevel, message: str, **fields: Any) -> None:
        self._record.logs.append((level, message, fields))

    def check(self) -> None:
        if self._cancelled:
            raise JobCancelled

    def file(self, file_id: UUID | str) -> StoredFile:
        stored = self._record.files.get(UUID(str(file_id)))
        if stored is None:
            raise Fail(f"no file {file_id}")
        return stored

    def save_file(self, path: Path, *, name: str, media_type: str) -> StoredFile:
        kept = Path(tempfile.mkdtemp(prefix="lading-file-")) / "content"
        shutil.move(path, kept)
        stored = _stored(uuid4(), kept, name, media_type)
        self._record.files[stored.id] = stored
        return stored

    def _submitted(
        self, kind: str, args: BaseModel | Mapping[str, Any], options: Mapping[str, Any]
    ) -> UUID:
        raw = (
            args.model_dump(mode="json", by_alias=True)
            if isinstance(args, BaseModel)
            else dict(args)
        )
        child = Submitted(uuid4(), kind, raw, dict(options))
        self._record.submitted.append(child)
        return child.id

    def _published(self, type_: str, data: Any, attributes: Mapping[str, Any]) -> UUID:
        plain = data.model_dump(mode="json", by_alias=True) if isinstance(data, BaseModel) else data
        event = Published(uuid4(), type_, plain, dict(attributes))
        self._record.published.append(event)
        return event.id

    def _find_step(self, name: str) -> bool:
        self.check()
        self._names.use(name)
        return name in self._record.steps

    @cached_property
    def _stage(self) -> "Stage":
        from lading.rehearsal import Stage  # noqa: PLC0415 - only this needs SQLModel

        record = self._record
        said: list[list[Any]] = [record.submitted, record.published]
        return Stage(record.steps, said, self._names, self._engine)


class _Recorder(_Recording, JobContext):
    def step(self, name: str, function: Callable[[], T]) -> T:
        if not self._find_step(name):
            self._record.steps[name] = function()
        return cast("T", self._record.steps[name])

    def transaction(self, name: str) -> "RehearsedBlock":
        self.check()
        return self._stage.block(name)

    def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        return self._submitted(kind, args, options)

    def publish(self, type_: str, data: Any = None, **attributes: Unpack[EventAttributes]) -> UUID:
        return self._published(type_, data, attributes)


class _AsyncRecorder(_Recording, AsyncJobContext):
    async def step(self, name: str, function: Callable[[], T | Awaitable[T]]) -> T:
        if not self._find_step(name):
            value = function()
            self._record.steps[name] = await value if inspect.isawaitable(value) else value
        return cast("T", self._record.steps[name])

    def transaction(self, name: str) -> "RehearsedAwaitedBlock":
        self.check()
        return self._stage.awaited_block(name)

    async def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        return self._submitted(kind, args, options)

    async def publish(
        self, type_: str, data: Any = None, **attributes: Unpack[EventAttributes]
    ) -> UUID:
        return self._published(type_, data, attributes)
