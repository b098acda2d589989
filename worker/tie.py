"""How a context reaches the platform: the blocking calls, for both kinds of context."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from jobs import documents, files, lifecycle
from jobs.errors import FileMissing, LeaseLost
from jobs.hints import BUS
from jobs.lifecycle import Claim, Moved
from jobs.states import JobState
from jobs.submissions import NewJob
from lading.context import StoredFile
from lading.outcomes import Fail, JobCancelled
from worker import children, publishing
from worker.link import Link, Stop
from worker.notes import Notes
from worker.outcomes import MAX_RESULT_BYTES
from worker.runtime import Runtime
from worker.steps import MISSING, Scope, Steps, find_scope


class Tie:
    """One attempt's."""

    def __init__(self, runtime: Runtime, claim: Claim, link: Link, notes: Notes) -> None:
        self.runtime, self.claim, self.link, self.notes = runtime, claim, link, notes
        self.steps = Steps(runtime, claim)
        self._handler = Scope()

    def find_step(self, name: str) -> Any:
        """The step's stored result, or MISSING."""
        self.link.check()
        self.steps.names.use(name)
        return self.steps.find(name)

    def store_step(self, name: str, value: Any) -> Any:
        """The step's result is stored. As a later attempt would get it."""
        result = _plain(name, value)
        try:
            self.runtime.move(lambda c: self.record_step(c, name, result))
        except LeaseLost:
            self.lose()
        except IntegrityError:  # an answer was lost, and the statement tried again
            result = self.steps.ask(name)
        self.steps.add(name, result)
        return result

    def record_step(self, connection: Connection, name: str, result: Any) -> Moved:
        """The step is stored, in the connection's own transaction."""
        claim = self.claim
        return lifecycle.record_step(
            connection, claim.id, attempt=claim.attempt, name=name, result=result
        )

    def find_transaction(self, name: str) -> bool:
        """Whether an earlier attempt has committed it; else it may be made now."""
        self.link.check()
        self.steps.names.enter(name)
        return self.steps.find(name) is not MISSING

    def next_child(self) -> tuple[Scope, int]:
        """In which part of the handler, and as which child there, the attempt submits now."""
        scope = find_scope(self._handler)
        return scope, scope.next_child()

    def submit(
        self,
        place: tuple[Scope, int],
        kind: str,
        args: BaseModel | Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> UUID:
        """The job's child of that place exists, or comes with the transaction it is part of."""
        self.link.check()
        scope, number = place
        child_id = children.child_id(self.claim.id, number, scope.name)
        child = children.checked(
            self.runtime.registry, (self.claim.id, child_id), kind, args, options
        )
        if scope.defers:
            if child.unique is not None and child.unique.on_conflict == "return":
                raise Fail(
                    "a child job is refused: inside a transaction nobody knows yet which job"
                    " has its unique key, so that none can be returned"
                )
            scope.waiting.append(child)
            return child.id
        try:
            job_id, moved = self.runtime.commit(lambda c: self.record_child(c, child))
        except LeaseLost:
            self.lose()
        self.tell(moved)
        return job_id

    def record_child(self, connection: Connection, child: NewJob) -> tuple[UUID, list[Moved]]:
        """The child exists, in the connection's own transaction: see children.submit."""
        parent = children.Parent(self.claim, self.runtime.worker_id)
        return children.submit(connection, parent, child)

    def scope(self) -> Scope:
        """In which part of the handler the attempt is now."""
        return find_scope(self._handler)

    def publish(
        self, scope: Scope, type_: str, data: Any, attributes: Mapping[str, str | None]
    ) -> UUID:
        """The event is accepted, or comes with the transaction it is part of: its address."""
        self.link.check()
        event = publishing.checked(self.claim, type_, data, attributes)
        if scope.defers:
            scope.add_event(event)
            return event.id

        def record(connection: Connection) -> UUID:
            children.hold(connection, self.claim)
            return publishing.record(connection, self.claim, event)

        try:
            event_id = self.runtime.commit(record)
        except LeaseLost:
            self.lose()
        self.tell_published()
        return event_id

    def tell_published(self) -> None:
        """Whoever follows events, or lets them meet their triggers, looks soon."""
        self.runtime.hints.tell_published()
        self.runtime.hints.wake([BUS])

    def tell(self, moved: Sequence[Moved]) -> None:
        """Whoever listens hears of what was committed."""
        self.runtime.hints.tell(moved)
        self.runtime.hints.wake(
            each.queue for each in moved if each.type == "created" and each.state is JobState.QUEUED
        )

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

    def lose(self) -> NoReturn:
        """The job went on without this attempt: JobCancelled."""
        self.link.stop(Stop.LOST)
        self.link.check()
        raise JobCancelled(Stop.LOST.value)

    def _stored(self, view: files.FileView) -> StoredFile:
        path = self.runtime.files.path_of(view.id)
        return StoredFile(view.id, view.name, view.size, view.media_type, path)


def _plain(name: str, value: Any) -> Any:
    """The value as it comes back out of the database. TypeError when it is no JSON, or too long."""
    try:
        text = documents.encode(value)
    except documents.NotStorable as error:
        raise TypeError(f"the result of step {name!r} cannot be stored: {error}") from error
    if len(text.encode()) > MAX_RESULT_BYTES:
        raise TypeError(f"the result of step {name!r} is longer than {MAX_RESULT_BYTES} bytes")
    return json.loads(text)
