"""Run a handler in a test, with a context that records and without any server."""

import asyncio
import inspect
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

from pydantic import BaseModel

from lading.authoring import Kind, find_kind
from lading.context import AsyncJobContext, Attempt, BaseContext, JobContext, LogLevel, StoredFile
from lading.outcomes import Cancel, Fail, JobCancelled, JobTimeout, Retry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Submitted:
    """A child job that the handler asked for."""

    id: UUID
    kind: str
    args: Mapping[str, Any]
    options: Mapping[str, Any]


@dataclass(slots=True)
class Run:
    """What one attempt did. `outcome` is the word an attempt of a real job would carry."""

    outcome: str = "succeeded"  #: succeeded, retried, failed or cancelled
    result: Any = None  #: the JSON that would be stored
    error: BaseException | None = None  #: what the handler raised
    progress: list[tuple[float, str | None]] = field(default_factory=list)
    logs: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    steps: dict[str, Any] = field(default_factory=dict)
    submitted: list[Submitted] = field(default_factory=list)
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
) -> Run:
    """One attempt of the handler, run here and now.

    `args` are validated as at a submission (pydantic.ValidationError). `files` are the stored files
    that it may open, by id; `steps` those an earlier attempt has stored; `cancelled`: a cancel has
    been asked for. What the handler raises stands in the result, as its outcome would. Saved files
    lie in a temporary folder that the caller may delete.
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
    _attempt(kind, facts, validated, record, cancelled=cancelled)
    return record


def _attempt(kind: Kind, facts: Attempt, args: BaseModel, record: Run, *, cancelled: bool) -> None:
    try:
        if kind.is_async:
            handler = cast("Callable[..., Any]", kind.handler)
            value = asyncio.run(handler(_AsyncRecorder(facts, record, cancelled), args))
        else:
            value = kind.handler(_Recorder(facts, record, cancelled), args)
        record.result = kind.result_adapter.dump_python(value, mode="json")
    except (Cancel, JobCancelled) as error:
        record.outcome, record.error = "cancelled", error
    except Fail as error:
        record.outcome, record.error = "failed", error
    except (Retry, JobTimeout, Exception) as error:  # noqa: BLE001 - any of them is an outcome
        record.outcome = "failed" if facts.failures + 1 >= facts.max_attempts else "retried"
        record.error = error


def _stored(file_id: UUID, path: Path, name: str, media_type: str) -> StoredFile:
    return StoredFile(file_id, name, path.stat().st_size, media_type, path)


class _Recording(BaseContext):
    def __init__(self, facts: Attempt, record: Run, cancelled: bool) -> None:
        super().__init__(facts)
        self._record, self._cancelled = record, cancelled

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


class _Recorder(_Recording, JobContext):
    def step(self, name: str, function: Callable[[], T]) -> T:
        self.check()
        if name not in self._record.steps:
            self._record.steps[name] = function()
        return cast("T", self._record.steps[name])

    def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        return self._submitted(kind, args, options)


class _AsyncRecorder(_Recording, AsyncJobContext):
    async def step(self, name: str, function: Callable[[], T | Awaitable[T]]) -> T:
        self.check()
        if name not in self._record.steps:
            value = function()
            self._record.steps[name] = await value if inspect.isawaitable(value) else value
        return cast("T", self._record.steps[name])

    async def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        return self._submitted(kind, args, options)
