"""What can be asked of Lading, each verb once: both clients drive these generators."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

from pydantic_core import to_jsonable_python

from lading.args import as_json
from lading.client.calling import call, read, read_items
from lading.client.deadline import Deadline
from lading.client.errors import NotFound, StillRunning, Unreachable
from lading.client.exchange import Answer, Call, Emit, Lost, Pause, Repeat, Request, Send, Series
from lading.client.following import LONG_POLL
from lading.client.listing import JobFilters, JobRef, id_of, query_of
from lading.client.models import (
    Attempt,
    Batch,
    Event,
    Health,
    Job,
    Kind,
    LogLine,
    PublishedEvent,
    Queue,
    Schedule,
    Ticket,
    Worker,
)
from lading.client.submissions import Args, NewJob
from lading.client.trying import Trying

LONGEST_PREFERENCE = 30  # seconds; longer than that the server does not wait in one answer
PAGE = 200  # jobs; the server's largest
_JSON = {"Content-Type": "application/json"}


def path_of(job: JobRef) -> str:
    """Where that job is on the server."""
    return f"/v1/jobs/{quote(id_of(job), safe='')}"


class Verbs:
    """The verbs of jobs, with one patience: the seconds for which a call is sent again."""

    def __init__(self, patience: float) -> None:
        self.patience = patience

    def submit(self, job: NewJob, key: str | None, wait: float | None) -> Call[Job]:
        """The accepted job; after up to `wait` seconds, if it has not ended before."""
        return (yield from self._accept("/v1/jobs", job.document(), key, wait))

    def submit_many(self, jobs: Iterable[NewJob], key: str | None) -> Call[list[Job]]:
        """The accepted jobs, in order: all of them, or none."""
        document = {"jobs": [job.document() for job in jobs]}
        answer = yield from self._keyed("/v1/jobs/batch", document, key)
        return read_items(Job, answer, "jobs")

    def submit_batch(
        self, jobs: Iterable[NewJob], callbacks: Mapping[str, NewJob | None], policy: str
    ) -> Call[Batch]:
        """The accepted batch."""
        document: dict[str, Any] = {"jobs": [job.document() for job in jobs]}
        document |= {name: job.document() for name, job in callbacks.items() if job is not None}
        document["failure_policy"] = policy
        answer = yield from self._keyed("/v1/jobs/batch", document, None)
        return Batch.model_validate(json.loads(answer.body)["batch"])

    def batch(self, batch_id: UUID | str) -> Call[Batch]:
        return read(Batch, (yield from self._get(f"/v1/batches/{quote(str(batch_id), safe='')}")))

    def rerun(
        self, job: JobRef, args: Args | None, key: str | None, wait: float | None
    ) -> Call[Job]:
        document = {} if args is None else {"args": as_json(args)}
        return (yield from self._accept(f"{path_of(job)}/rerun", document, key, wait))

    def _accept(
        self, path: str, document: Mapping[str, Any], key: str | None, wait: float | None
    ) -> Call[Job]:
        deadline = Deadline(wait or 0.0)
        job = read(Job, (yield from self._keyed(path, document, key, wait or 0.0)))
        while not job.is_final and (left := deadline.left(LONG_POLL)):
            job = yield from self._read_after(job, left)
        return job

    def _keyed(
        self, path: str, document: Mapping[str, Any], key: str | None, wait: float = 0.0
    ) -> Call[Answer]:
        """A POST that makes one thing, however often it is sent: it has an idempotency key."""
        key = key or str(uuid4())
        headers = {**_JSON, "Idempotency-Key": key}
        preferred = min(math.ceil(wait), LONGEST_PREFERENCE)
        if preferred > 0:
            headers["Prefer"] = f"wait={preferred}"
        body = _encode(document)
        request = Request("POST", path, (), body, headers, extra_wait=max(0, preferred))
        try:
            return (yield from call(request, self.patience))
        except Unreachable as error:
            error.add_note(f"Sent again with the idempotency key {key!r}, it is done once.")
            raise

    def get(self, job: JobRef) -> Call[Job]:
        return read(Job, (yield from self._get(path_of(job))))

    def wait(self, job: JobRef, timeout: float | None) -> Call[Job]:
        """The job once it is final. StillRunning after `timeout` seconds."""
        deadline = Deadline(timeout)
        while True:
            seconds = deadline.left(LONG_POLL)
            found = yield from self._read_after(job, seconds)
            if found.is_final:
                return found
            if deadline.left(LONG_POLL) <= 0:
                raise StillRunning(f"job {found.id} is {found.state} after {timeout} s")

    def _read_after(self, job: JobRef, seconds: float) -> Call[Job]:
        """The job as soon as it is final, or as it is after so many seconds."""
        wait = (("wait", f"{seconds:.3f}"),)
        request = Request("GET", path_of(job), wait, extra_wait=seconds)
        return read(Job, (yield from call(request, self.patience)))

    def list(self, filters: JobFilters, limit: int | None, *, full: bool) -> Series[Job]:
        """Page after page, as they are needed. Asked for no ids, it gives no jobs."""
        query = query_of(filters)
        if full:
            query["full"] = "1"
        left = math.inf if limit is None else limit
        is_over = query.get("ids") == ""
        while left > 0 and not is_over:
            query["limit"] = str(min(PAGE, left))
            answer = yield from self._get("/v1/jobs", tuple(query.items()))
            for job in read_items(Job, answer):
                yield Emit(job)
                left -= 1
            query["cursor"] = json.loads(answer.body).get("next_cursor") or ""
            is_over = not query["cursor"]

    def events(self, job: JobRef, after: int) -> Call[Sequence[Event]]:
        answer = yield from self._get(f"{path_of(job)}/events", (("after", str(after)),))
        return read_items(Event, answer)

    def attempts(self, job: JobRef) -> Call[Sequence[Attempt]]:
        return read_items(Attempt, (yield from self._get(f"{path_of(job)}/attempts")))

    def logs(self, job: JobRef, after: int) -> Call[Sequence[LogLine]]:
        answer = yield from self._get(f"{path_of(job)}/logs", (("after", str(after)),))
        return read_items(LogLine, answer)

    def publish(self, document: Mapping[str, Any]) -> Call[PublishedEvent]:
        """An event of the plain form. It is sent with an id, so that it is one event."""
        named = {"id": str(uuid4()), **{k: v for k, v in document.items() if v is not None}}
        if "data" in document:
            named["data"] = document["data"]
        request = Request("POST", "/v1/events", (), _encode(named), _JSON)
        return read(PublishedEvent, (yield from call(request, self.patience)))

    def cancel(self, job: JobRef, reason: str | None) -> Call[Job]:
        body = _encode({} if reason is None else {"reason": reason})
        request = Request("POST", f"{path_of(job)}/cancel", (), body, _JSON)
        return read(Job, (yield from call(request, self.patience)))

    def move(self, job: JobRef, verb: str) -> Call[Job]:
        """`retry` or `run-now`: done again after a success, it would do something else."""
        request = Request("POST", f"{path_of(job)}/{verb}", repeat=Repeat.IF_REFUSED)
        return read(Job, (yield from call(request, self.patience)))

    def delete(self, job: JobRef) -> Call[None]:
        """It is gone. That it was gone before is an error, unless an answer was lost on the way."""
        request, trying = Request("DELETE", path_of(job)), Trying(self.patience)
        may_be_done = False
        while True:
            reply: Answer | Lost = yield Send(request)
            if isinstance(reply, Answer) and reply.is_success:
                return
            try:
                pause = trying.pause_after(request, reply)
            except NotFound:
                if may_be_done:
                    return
                raise
            may_be_done = True
            yield Pause(pause)

    def kinds(self) -> Call[Sequence[Kind]]:
        return read_items(Kind, (yield from self._get("/v1/kinds")))

    def queues(self) -> Call[Sequence[Queue]]:
        return read_items(Queue, (yield from self._get("/v1/queues")))

    def workers(self) -> Call[Sequence[Worker]]:
        return read_items(Worker, (yield from self._get("/v1/workers")))

    def schedules(self) -> Call[Sequence[Schedule]]:
        """All of them, page after page."""
        found: list[Schedule] = []
        query = {"limit": str(PAGE)}
        while query.get("cursor") != "":
            answer = yield from self._get("/v1/schedules", tuple(query.items()))
            found += read_items(Schedule, answer)
            query["cursor"] = json.loads(answer.body).get("next_cursor") or ""
        return found

    def ticket(self, scopes: Iterable[str] | None) -> Call[str]:
        """Asked for twice, the first one just runs out."""
        request = Request("POST", "/v1/ws-tickets")
        if scopes is not None:
            body = _encode({"scopes": sorted(scopes)})
            request = Request("POST", "/v1/ws-tickets", (), body, _JSON)
        return read(Ticket, (yield from call(request, self.patience))).ticket

    def health(self) -> Call[Health]:
        """What the server says of itself; that it is unavailable is no error here."""
        request, trying = Request("GET", "/readyz"), Trying(self.patience)
        while True:
            reply: Answer | Lost = yield Send(request)
            if isinstance(reply, Answer) and reply.media_type == "application/json":
                return read(Health, reply)
            yield Pause(trying.pause_after(request, reply))

    def _get(self, path: str, query: tuple[tuple[str, str], ...] = ()) -> Call[Answer]:
        return (yield from call(Request("GET", path, query), self.patience))


def _encode(document: Mapping[str, Any]) -> bytes:
    """JSON; ValueError when a value has none, as NaN, or half a surrogate pair."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, default=to_jsonable_python)
    return text.encode()
