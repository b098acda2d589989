"""What handlers are given: contexts that write to the job's event log, its steps and its files."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError

from jobs import documents, files, lifecycle
from jobs.errors import FileMissing, LeaseLost
from jobs.lifecycle import Claim
from jobs.steps import read_steps
from lading.context import AsyncJobContext, BaseContext, JobContext, LogLevel, StoredFile
from lading.outcomes import Fail
from worker import children
from worker.link import Link, Stop
from worker.notes import Notes
from worker.outcomes import MAX_RESULT_BYTES
from worker.runtime import Runtime

T = TypeVar("T")
_MISSING = object()


class Tie:
    """How a context reaches the platform: the blocking calls, for both kinds of context."""

    def __init__(self, runtime: Runtime, claim: Claim, link: Link, notes: Notes) -> None:
        self.runtime, self.claim, self.link, self.notes = runtime, claim, link, notes
        self._steps: dict[str, Any] | None = {} if claim.attempt == 1 else None
        self._children = 0

    def find_step(self, name: str) -> Any:
        """The step's stored result, or _MISSING."""
        self.link.check()
        if self._steps is None:
            self._steps = self.runtime.ask(lambda c: read_steps(c, self.claim.id))
        return self._steps.get(name, _MISSING)

    def store_step(self, name: str, value: Any) -> Any:
        """The step's result is stored. As a later attempt would get it."""
        result = _plain(name, value)
        try:
            self.runtime.move(
                lambda c: lifecycle.record_step(
                    c, self.claim.id, attempt=self.claim.attempt, name=name, result=result
                )
            )
        except LeaseLost:
            self._lose()
        except IntegrityError:  # an answer was lost, and the statement tried again
            result = self.runtime.ask(lambda c: read_steps(c, self.claim.id))[name]
        assert self._steps is not None
        self._steps[name] = result
        return result

    def next_child(self) -> int:
        """Which child of its job the attempt submits now."""
        self._children += 1
        return self._children

    def submit(
        self,
        number: int,
        kind: str,
        args: BaseModel | Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> UUID:
        """The job's child of that number exists."""
        self.link.check()
        child = children.checked(
            self.runtime.registry, (self.claim.id, number), kind, args, options
        )
        parent = children.Parent(self.claim, self.runtime.worker_id)
        try:
            created = self.runtime.commit(lambda c: children.submit(c, parent, child))
        except LeaseLost:
            self._lose()
        self.runtime.hints.tell(created)
        self.runtime.hints.wake(event.queue for event in created)
        return child.id

    def file(self, file_id: UUID | str) -> StoredFile:
        """The project's file."""
        try:
            key = UUID(str(file_id))
            view = self.runtime.ask(lambda c: files.get_file(c, self.claim.project_id, key))
        except (ValueError, FileMissing):
            raise Fail(f"no file {file_id}") from None
        return self._stored(view)

    def save_file(self, path: Path, name: str, media_type: str) -> StoredFile:
        """The bytes are a file of the project, made by this job."""
        stored = self.runtime.files.adopt(path)
        view = self.runtime.ask(
            lambda c: files.record_file(
                c,
                self.claim.project_id,
                stored,
                name=name,
                media_type=media_type,
                job_id=self.claim.id,
            )
        )
        return self._stored(view)

    def _stored(self, view: files.FileView) -> StoredFile:
        path = self.runtime.files.path_of(view.id)
        return StoredFile(view.id, view.name, view.size, view.media_type, path)

    def _lose(self) -> None:
        """The job went on without this attempt: JobCancelled."""
        self.link.stop(Stop.LOST)
        self.link.check()


class _Context(BaseContext):
    def __init__(self, tie: Tie) -> None:
        super().__init__(tie.link.facts)
        self._tie = tie

    def progress(self, fraction: float, message: str | None = None) -> None:
        self._tie.link.check()
        self._tie.notes.show(fraction, message)

    def log(self, level: LogLevel, message: str, **fields: Any) -> None:
        with self._tie.link.shielded():
            self._tie.notes.add(level, message, fields)

    def check(self) -> None:
        self._tie.link.check()

    def file(self, file_id: UUID | str) -> StoredFile:
        with self._tie.link.shielded():
            return self._tie.file(file_id)

    def save_file(self, path: Path, *, name: str, media_type: str) -> StoredFile:
        with self._tie.link.shielded():
            return self._tie.save_file(path, name, media_type)


class SyncContext(_Context, JobContext):
    """For `def` handlers."""

    def step(self, name: str, function: Callable[[], T]) -> T:
        with self._tie.link.shielded():
            stored = self._tie.find_step(name)
        if stored is _MISSING:
            value = function()
            with self._tie.link.shielded():
                stored = self._tie.store_step(name, value)
        return cast("T", stored)

    def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        with self._tie.link.shielded():
            return self._tie.submit(self._tie.next_child(), kind, args, options)


class AsyncContext(_Context, AsyncJobContext):
    """For `async def` handlers: what waits for PostgreSQL waits in a thread."""

    async def step(self, name: str, function: Callable[[], T | Awaitable[T]]) -> T:
        stored = await asyncio.to_thread(self._tie.find_step, name)
        if stored is _MISSING:
            value = function()
            value = await value if inspect.isawaitable(value) else value
            stored = await asyncio.to_thread(self._tie.store_step, name, value)
        return cast("T", stored)

    async def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        number = self._tie.next_child()
        return await asyncio.to_thread(self._tie.submit, number, kind, args, options)


def _plain(name: str, value: Any) -> Any:
    """The value as it comes back out of the database. TypeError when it is no JSON, or too long."""
    try:
        text = documents.encode(value)
    except documents.NotStorable as error:
        raise TypeError(f"the result of step {name!r} cannot be stored: {error}") from error
    if len(text.encode()) > MAX_RESULT_BYTES:
        raise TypeError(f"the result of step {name!r} is longer than {MAX_RESULT_BYTES} bytes")
    return json.loads(text)
