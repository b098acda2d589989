"""The client that is awaited: the same verbs as in lading/client/blocking.py."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Unpack
from uuid import UUID

import anyio
import anyio.to_thread
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

CHUNK = 256 * 1024  # bytes; each is a trip to a thread


class AsyncClient:
    """Lading, for programs that await. Close it, or use it in `async with`; see Client."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 15.0,
        patience: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        address = find_address(url, api_key)
        self.url = address.url
        self._http = httpx2.AsyncClient(transport=transport, **wire.defaults(address, timeout))
        self._timeout = timeout
        self._verbs, self._files = Verbs(patience), FileVerbs(patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Its connections are closed."""
        await self._http.aclose()

    async def submit(
        self,
        kind: str | Handler,
        args: Args | None = None,
        *,
        idempotency_key: str | None = None,
        wait: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """The accepted job: committed, so that it is not lost."""
        return await self._run(
            self._verbs.submit(NewJob(kind, args, **options), idempotency_key, wait)
        )

    async def submit_many(
        self, jobs: Iterable[NewJob], *, idempotency_key: str | None = None
    ) -> Sequence[Job]:
        """Up to 1000 accepted jobs, in order: all of them, or none."""
        return await self._run(self._verbs.submit_many(jobs, idempotency_key))

    async def submit_batch(
        self,
        jobs: Iterable[NewJob],
        *,
        on_complete: NewJob | None = None,
        on_success: NewJob | None = None,
        failure_policy: Literal["continue", "fail_fast"] = "continue",
    ) -> Batch:
        """Up to 1000 accepted jobs as a batch, whose callbacks run once all have ended."""
        callbacks = {"on_complete": on_complete, "on_success": on_success}
        return await self._run(self._verbs.submit_batch(jobs, callbacks, failure_policy))

    async def batch(self, batch_id: UUID | str) -> Batch:
        """The batch as it is now; NotFound when there is none."""
        return await self._run(self._verbs.batch(batch_id))

    async def get(self, job: JobRef) -> Job:
        """The job as it is now; NotFound when there is none."""
        return await self._run(self._verbs.get(job))

    def list(
        self, *, limit: int | None = None, full: bool = False, **filters: Unpack[JobFilters]
    ) -> AsyncIterator[Job]:
        """The jobs that fit, newest first, page by page as they are needed, at most `limit`."""
        return self._iterate(self._verbs.list(filters, limit, full=full))

    async def wait(  # the same words as Client's
        self,
        job: JobRef,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Job:
        """The job once it has ended, well or not. StillRunning after `timeout` seconds."""
        return await self._run(self._verbs.wait(job, timeout))

    def follow(
        self, job: JobRef, *, after: int = 0, patience: float = 300.0
    ) -> AsyncIterator[Event]:
        """Each event of the job after that `seq`, once and in order, up to the one that ends it.

        It reconnects and goes on where it was, until the server is not heard of for `patience`
        seconds (Unreachable). Where a proxy refuses streams it asks again and again instead.
        """
        return self._iterate(Following(id_of(job), after, patience).events())

    async def events(self, job: JobRef, *, after: int = 0) -> Sequence[Event]:
        """The job's events after that `seq` so far."""
        return await self._run(self._verbs.events(job, after))

    async def attempts(self, job: JobRef) -> Sequence[Attempt]:
        """The job's starts, the running one included."""
        return await self._run(self._verbs.attempts(job))

    async def logs(self, job: JobRef, *, after: int = 0) -> Sequence[LogLine]:
        """What its handler has written, in events after that `seq`."""
        return await self._run(self._verbs.logs(job, after))

    async def publish(
        self,
        type: str,  # noqa: A002 - an event's
        data: Any = None,
        *,
        id: str | None = None,  # noqa: A002
        source: str | None = None,
        subject: str | None = None,
    ) -> PublishedEvent:
        """The event is accepted, with the jobs that its triggers have made of it; see Client."""
        document = {"type": type, "data": data, "id": id, "source": source, "subject": subject}
        return await self._run(self._verbs.publish(document))

    async def cancel(self, job: JobRef, reason: str | None = None) -> Job:
        """It is cancelled, or asked to end if it runs. InvalidTransition when it has ended."""
        return await self._run(self._verbs.cancel(job, reason))

    async def retry(self, job: JobRef) -> Job:
        """A failed, cancelled or retrying job starts again, with fresh budgets."""
        return await self._run(self._verbs.move(job, "retry"))

    async def run_now(self, job: JobRef) -> Job:
        """A scheduled or retrying job does not wait for its time."""
        return await self._run(self._verbs.move(job, "run-now"))

    async def rerun(
        self,
        job: JobRef,
        args: Args | None = None,
        *,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> Job:
        """A new job that does the same, or with other args; as `submit`."""
        return await self._run(self._verbs.rerun(job, args, idempotency_key, wait))

    async def delete(self, job: JobRef) -> None:
        """A job that has ended is gone, with its history."""
        await self._run(self._verbs.delete(job))

    async def upload(
        self,
        source: Path | str | bytes,
        *,
        name: str | None = None,
        media_type: str | None = None,
    ) -> File:
        """The stored file: what is at that path, or these bytes."""
        return await self._run(self._files.upload(Upload.of(source, name, media_type)))

    async def get_file(self, file: FileRef) -> File:
        """What is known of a stored file."""
        return await self._run(self._files.get_file(file))

    async def download(self, file: FileRef, path: Path | str | None = None) -> Path:
        """Where the file is now: at `path`, or under its own name in that or the current folder.

        It appears there at once, whole, with the right SHA-256, or not at all (DamagedFile).
        """
        return await self._run(self._files.download(file, path))

    async def kinds(self) -> Sequence[Kind]:
        """All kinds, by name."""
        return await self._run(self._verbs.kinds())

    async def queues(self) -> Sequence[Queue]:
        """All queues, by name."""
        return await self._run(self._verbs.queues())

    async def workers(self) -> Sequence[Worker]:
        """The workers that are alive."""
        return await self._run(self._verbs.workers())

    async def schedules(self) -> Sequence[Schedule]:
        """All schedules, newest first."""
        return await self._run(self._verbs.schedules())

    async def ticket(self, scopes: Iterable[str] | None = None) -> str:
        """For a page in a browser: it opens one WebSocket at /v1/ws, once, within 30 seconds.

        It may do what these scopes allow; left out, all of this client's that streams need.
        """
        return await self._run(self._verbs.ticket(scopes))

    async def health(self) -> Health:
        """How the server is."""
        return await self._run(self._verbs.health())

    async def _run(self, call: Call[T]) -> T:
        with closing(call):
            async with _Line(self._http, self._timeout) as line:
                reply: Any = None
                while True:
                    try:
                        action = call.send(reply)
                    except StopIteration as end:
                        result: T = end.value
                        return result
                    reply = await line.perform(action)

    async def _iterate(self, series: Series[Item]) -> AsyncIterator[Item]:
        with closing(series):
            async with _Line(self._http, self._timeout) as line:
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
                        reply = await line.perform(action)


class _Line:
    """Performs the actions of one call; it holds at most one open stream."""

    def __init__(self, http: httpx2.AsyncClient, timeout: float) -> None:
        self._http, self._timeout = http, timeout
        self._stream = AsyncExitStack()
        self._messages: AsyncIterator[httpx2.ServerSentEvent] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()

    async def perform(self, action: Action) -> Any:
        match action:
            case Pause(seconds):
                await anyio.sleep(seconds)
                return None
            case Work(function):
                return await anyio.to_thread.run_sync(function)
        try:
            return await self._exchange(action)
        except wire.BROKEN as error:
            return wire.lost(error)

    async def _exchange(self, action: Action) -> Answer | Lost | Message | None:
        match action:
            case Send(request):
                return await self._send(request)
            case Fetch(request, sink):
                return await self._fetch(request, sink.begin, sink.write)
            case Listen(request):
                return await self._listen(request)
            case Hear() if self._messages is not None:
                message = await anext(self._messages, None)
                return None if message is None else wire.message_of(message)
        raise AssertionError(action)

    async def _send(self, request: Request) -> Answer:
        with wire.opened(request.upload) as source:
            response = await self._http.request(**wire.sending(request, self._timeout, source))
        return wire.answer_of(response, response.content)

    async def _fetch(
        self,
        request: Request,
        begin: Callable[[int, Mapping[str, str]], None],
        write: Callable[[bytes], None],
    ) -> Answer:
        async with self._http.stream(**wire.sending(request, self._timeout, None)) as response:
            if not response.is_success:
                return wire.answer_of(response, await response.aread())
            answer = wire.answer_of(response)
            await anyio.to_thread.run_sync(begin, answer.status, answer.headers)
            async for chunk in response.aiter_bytes(CHUNK):
                await anyio.to_thread.run_sync(write, chunk)
        return answer

    async def _listen(self, request: Request) -> Answer:
        await self._stream.aclose()
        asked = wire.sending(request, self._timeout, None)
        asked["timeout"] = wire.LISTENING
        response = await self._stream.enter_async_context(self._http.stream(**asked))
        if not wire.is_stream(response):
            return wire.answer_of(response, await response.aread())
        self._messages = aiter(httpx2.EventSource(response, wire.LARGEST_EVENT))
        return wire.answer_of(response)
