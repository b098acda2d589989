"""What handlers are given: contexts that write to the job's event log, its steps and its files."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Unpack, cast
from uuid import UUID

from pydantic import BaseModel

from lading.context import (
    AsyncJobContext,
    BaseContext,
    EventAttributes,
    JobContext,
    LogLevel,
    StoredFile,
)
from worker.steps import MISSING, Scope, within
from worker.tie import Tie
from worker.transaction import AsyncTransaction, SyncTransaction

T = TypeVar("T")


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
        if stored is MISSING:
            with within(Scope(name)):
                value = function()
            with self._tie.link.shielded():
                stored = self._tie.store_step(name, value)
        return cast("T", stored)

    def transaction(self, name: str) -> SyncTransaction:
        return SyncTransaction(self._tie, name)

    def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        with self._tie.link.shielded():
            return self._tie.submit(self._tie.next_child(), kind, args, options)

    def publish(self, type_: str, data: Any = None, **attributes: Unpack[EventAttributes]) -> UUID:
        with self._tie.link.shielded():
            return self._tie.publish(self._tie.scope(), type_, data, _texts(attributes))


class AsyncContext(_Context, AsyncJobContext):
    """For `async def` handlers: what waits for PostgreSQL does not hold the event loop."""

    async def step(self, name: str, function: Callable[[], T | Awaitable[T]]) -> T:
        stored = await asyncio.to_thread(self._tie.find_step, name)
        if stored is MISSING:
            with within(Scope(name)):
                value = function()
                value = await value if inspect.isawaitable(value) else value
            stored = await asyncio.to_thread(self._tie.store_step, name, value)
        return cast("T", stored)

    def transaction(self, name: str) -> AsyncTransaction:
        return AsyncTransaction(self._tie, name)

    async def submit(self, kind: str, args: BaseModel | Mapping[str, Any], **options: Any) -> UUID:
        place = self._tie.next_child()
        return await asyncio.to_thread(self._tie.submit, place, kind, args, options)

    async def publish(
        self, type_: str, data: Any = None, **attributes: Unpack[EventAttributes]
    ) -> UUID:
        given = _texts(attributes)
        return await asyncio.to_thread(self._tie.publish, self._tie.scope(), type_, data, given)


def _texts(attributes: EventAttributes) -> dict[str, str | None]:
    return cast("dict[str, str | None]", attributes)
