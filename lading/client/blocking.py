"""The client that waits in its thread."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Unpack
from uuid import UUID

import httpx2

from lading.client import wire
from lading.client.address import find_address
from lading.client.exchange import (
    Action,
    Answer,
    Call,
    Emit,
    Fetch,
    Hear,
    Listen,
    Lost,
    Message,
    Pause,
    Request,
    Send,
    Series,
    Work,
)
from lading.client.file_verbs import FileRef, FileVerbs
from lading.client.following import Following
from lading.client.listing import JobFilters, JobRef, id_of
from lading.client.models import (
    Attempt,
    Batch,
    Event,
    File,
    Health,
    Job,
    Kind,
    LogLine,
    PublishedEvent,
    Queue,
    Schedule,
    Worker,
)
from lading.client.submissions import Args, Handler, JobOptions, NewJob
from lading.client.transfers import Upload
from lading.client.verbs import Verbs

T = TypeVar("T")
Item = TypeVar("Item")


class Client:
    """Lading, for programs. It may be shared by threads; close it, or use it in `with`.

    Without `url` and `api_key` it looks for LADING_URL and LADING_API_KEY, then for the
    `.lading/dev.json` that `make dev` writes. A call that fails in a way that may pass is sent
    again for up to `patience` seconds, each try of which may take `timeout` seconds. `transport`
    is httpx2's, for proxies and certificates of one's own.

    Every verb raises LadingError: a subclass for what the server says, or Unreachable.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 15.0,
        patience: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        address = find_address(url, api_key)
        self.url = address.url
        self._http = httpx2.Client(transport=transport, **wire.defaults(address, timeout))
        self._timeout = timeout
        self._verbs, self._files = Verbs(patience), FileVerbs(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Its connections are closed."""
        self._http.close()

    def submit(
        self,
        kind: str | Handler,
        args: Args | None = None,
        *,
        idempotency_key: str | None = None,
        wait: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """The accepted job: committed, so that it is not lost.

        `kind` is a name, or a function made with `@job`. It is sent with an idempotency key, so
        that sending it again makes no second job; give a key of your own to submit the same once
        over restarts of your program. With `wait` the job is returned once it has ended, or after
        that many seconds as it is then.
        """
        return self._run(self._verbs.submit(NewJob(kind, args, **options), idempotency_key, wait))

    def submit_many(
        self, jobs: Iterable[NewJob], *, idempotency_key: str | None = None
    ) -> Sequence[Job]:
        """Up to 1000 accepted jobs, in order: all of them, or none."""
        return self._run(self._verbs.submit_many(jobs, idempotency_key))

    def submit_batch(
        self,
        jobs: Iterable[NewJob],
        *,
        on_complete: NewJob | None = None,
        on_success: NewJob | None = None,
        failure_policy: Literal["continue", "fail_fast"] = "continue",
    ) -> Batch:
        """Up to 1000 accepted jobs as a batch, whose callbacks run once all have ended."""
        callbacks = {"on_complete": on_complete, "on_success": on_success}
        return self._run(self._verbs.submit_batch(jobs, callbacks, failure_policy))

    def batch(self, batch_id: UUID | str) -> Batch:
        """The batch as it is now; NotFound when there is none."""
        return self._run(self._verbs.batch(batch_id))

    def get(self, job: JobRef) -> Job:
        """The job as it is now; NotFound when there is none."""
        return self._run(self._verbs.get(job))

    def list(
        self, *, limit: int | None = None, full: bool = False, **filters: Unpack[JobFilters]
    ) -> Iterator[Job]:
        """The jobs that fit, newest first, page by page as they are needed, at most `limit`.

        They have no args and no result, unless `full`.
        """
        return self._iterate(self._verbs.list(filters, limit, full=full))

    def wait(self, job: JobRef, timeout: float | None = None) -> Job:
        """The job once it has ended, well or not. StillRunning after `timeout` seconds."""
        return self._run(self._verbs.wait(job, timeout))

    def follow(self, job: JobRef, *, after: int = 0, patience: float = 300.0) -> Iterator[Event]:
        """Each event of the job after that `seq`, once and in order, up to the one that ends it.

        It reconnects and goes on where it was, until the server is not heard of for `patience`
        seconds (Unreachable). Where a proxy refuses streams it asks again and again instead.
        """
        return self._iterate(Following(id_of(job), after, patience).events())

    def events(self, job: JobRef, *, after: int = 0) -> Sequence[Event]:
        """The job's events after that `seq` so far."""
        return self._run(self._verbs.events(job, after))

    def attempts(self, job: JobRef) -> Sequence[Attempt]:
        """The job's starts, the running one included."""
        return self._run(self._verbs.attempts(job))

    def logs(self, job: JobRef, *, after: int = 0) -> Sequence[LogLine]:
        """What its handler has written, in events after that `seq`."""
        return self._run(self._verbs.logs(job, after))

    def publish(
        self,
        type: str,  # noqa: A002 - an event's
        data: Any = None,
        *,
        id: str | None = None,  # noqa: A002
        source: str | None = None,
        subject: str | None = None,
    ) -> PublishedEvent:
        """The event is accepted: committed, with the jobs that its triggers have made of it.

        The same `source` and `id` again is the same event, and makes nothing twice; without an
        `id` it gets one, so that sending it again is safe.
        """
        document = {"type": type, "data": data, "id": id, "source": source, "subject": subject}
        return self._run(self._verbs.publish(document))

    def cancel(self, job: JobRef, reason: str | None = None) -> Job:
        """It is cancelled, or asked to end if it runs. InvalidTransition when it has ended."""
        return self._run(self._verbs.cancel(job, reason))

    def retry(self, job: JobRef) -> Job:
        """A failed, cancelled or retrying job starts again, with fresh budgets."""
        return self._run(self._verbs.move(job, "retry"))

    def run_now(self, job: JobRef) -> Job:
        """A scheduled or retrying job does not wait for its time."""
        return self._run(self._verbs.move(job, "run-now"))

    def rerun(
        self,
        job: JobRef,
        args: Args | None = None,
        *,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> Job:
        """A new job that does the same, or with other args; as `submit`."""
        return self._run(self._verbs.rerun(job, args, idempotency_key, wait))

    def delete(self, job: JobRef) -> None:
        """A job that has ended is gone, with its history."""
        self._run(self._verbs.delete(job))

    def upload(
        self,
        source: Path | str | bytes,
        *,
        name: str | None = None,
        media_type: str | None = None,
    ) -> File:
        """The stored file: what is at that path, or these bytes."""
        return self._run(self._files.upload(Upload.of(source, name, media_type)))

    def get_file(self, file: FileRef) -> File:
        """What is known of a stored file."""
        return self._run(self._files.get_file(file))

    def download(self, file: FileRef, path: Path | str | None = None) -> Path:
        """Where the file is now: at `path`, or under its own name in that or the current folder.

        It appears there at once, whole, with the right SHA-256, or not at all (DamagedFile).
        """
        return self._run(self._files.download(file, path))

    def kinds(self) -> Sequence[Kind]:
        """All kinds, by name."""
        return self._run(self._verbs.kinds())

    def queues(self) -> Sequence[Queue]:
        """All queues, by name."""
        return self._run(self._verbs.queues())

    def workers(self) -> Sequence[Worker]:
        """The workers that are alive."""
        return self._run(self._verbs.workers())

    def schedules(self) -> Sequence[Schedule]:
        """All schedules, newest first."""
        return self._run(self._verbs.schedules())

    def ticket(self, scopes: Iterable[str] | None = None) -> str:
        """For a page in a browser: it opens one WebSocket at /v1/ws, once, within 30 seconds.

        It may do what these scopes allow; left out, all of this client's that streams need.
        """
        return self._run(self._verbs.ticket(scopes))

    def health(self) -> Health:
        """How the server is."""
        return self._run(self._verbs.health())

    def _run(self, call: Call[T]) -> T:
        with closing(call), _Line(self._http, self._timeout) as line:
            reply: Any = None
            while True:
                try:
                    action = call.send(reply)
                except StopIteration as end:
                    result: T = end.value
                    return result
                reply = line.perform(action)

    def _iterate(self, series: Series[Item]) -> Iterator[Item]:
        with closing(series), _Line(self._http, self._timeout) as line:
            reply: Any = None
            while True:
                try:
                    action = series.send(reply)
                except StopIteration:
                    return
                if isinstance(action, Emit):
                    yield action.item
                    reply = None
                else:
                    reply = line.perform(action)


class _Line:
    """Performs the actions of one call; it holds at most one open stream."""

    def __init__(self, http: httpx2.Client, timeout: float) -> None:
        self._http, self._timeout = http, timeout
        self._stream = ExitStack()
        self._messages: Iterator[httpx2.ServerSentEvent] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def perform(self, action: Action) -> Any:
        match action:
            case Pause(seconds):
                time.sleep(seconds)
                return None
            case Work(function):
                return function()
        try:
            return self._exchange(action)
        except wire.BROKEN as error:
            return wire.lost(error)

    def _exchange(self, action: Action) -> Answer | Lost | Message | None:
        match action:
            case Send(request):
                return self._send(request)
            case Fetch(request, sink):
                return self._fetch(request, sink.begin, sink.write)
            case Listen(request):
                return self._listen(request)
            case Hear():
                message = next(self._messages, None)
                return None if message is None else wire.message_of(message)
        raise AssertionError(action)

    def _send(self, request: Request) -> Answer:
        with wire.opened(request.upload) as source:
            response = self._http.request(**wire.sending(request, self._timeout, source))
        return wire.answer_of(response, response.content)

    def _fetch(
        self,
        request: Request,
        begin: Callable[[int, Mapping[str, str]], None],
        write: Callable[[bytes], None],
    ) -> Answer:
        with self._http.stream(**wire.sending(request, self._timeout, None)) as response:
            if not response.is_success:
                return wire.answer_of(response, response.read())
            answer = wire.answer_of(response)
            begin(answer.status, answer.headers)
            for chunk in response.iter_bytes():
                write(chunk)
        return answer

    def _listen(self, request: Request) -> Answer:
        self._stream.close()
        asked = wire.sending(request, self._timeout, None)
        asked["timeout"] = wire.LISTENING
        response = self._stream.enter_context(self._http.stream(**asked))
        if not wire.is_stream(response):
            return wire.answer_of(response, response.read())
        self._messages = iter(httpx2.EventSource(response, wire.LARGEST_EVENT))
        return wire.answer_of(response)
