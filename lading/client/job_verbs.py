"""What can be asked of Lading about jobs."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Unpack
from uuid import UUID

from lading.args import as_json
from lading.client.asking import Asking, place, said
from lading.client.calling import call, read, read_items
from lading.client.deadline import Deadline
from lading.client.errors import StillRunning
from lading.client.exchange import Call, Request, Series
from lading.client.following import LONG_POLL, Following
from lading.client.listing import JobFilters, JobRef, id_of, query_of
from lading.client.models import Answered, Attempt, Batch, Event, Job, LogLine
from lading.client.operating_models import Delivery
from lading.client.rule_models import Explanation
from lading.client.submissions import Args, Handler, JobOptions, NewJob
from lading.client.verb import series, verb

BatchRef = Batch | UUID | str


class JobVerbs(Asking):
    """Jobs and batches of them: submitted, read, followed, moved."""

    @verb
    def submit(
        self,
        kind: str | Handler,
        args: Args | None = None,
        *,
        idempotency_key: str | None = None,
        wait: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Call[Job]:
        """The accepted job: committed, so that it is not lost.

        `kind` is a name, or a function made with `@job`. It is sent with an idempotency key, so
        that sending it again makes no second job; give a key of your own to submit the same once
        over restarts of your program. With `wait` the job is returned once it has ended, or after
        that many seconds as it is then.
        """
        document = NewJob(kind, args, **options).document()
        return (yield from self._accept("/v1/jobs", document, idempotency_key, wait))

    @verb
    def submit_many(
        self, jobs: Iterable[NewJob], *, idempotency_key: str | None = None
    ) -> Call[Sequence[Job]]:
        """Up to 1000 accepted jobs, in order: all of them, or none."""
        document = {"jobs": [job.document() for job in jobs]}
        answer = yield from self._make_once("/v1/jobs/batch", document, idempotency_key)
        return read_items(Job, answer, "jobs")

    @verb
    def submit_batch(
        self,
        jobs: Iterable[NewJob],
        *,
        on_complete: NewJob | None = None,
        on_success: NewJob | None = None,
        failure_policy: Literal["continue", "fail_fast"] = "continue",
        open: bool = False,  # noqa: A002 - more jobs follow
        idempotency_key: str | None = None,
    ) -> Call[Batch]:
        """Up to 1000 accepted jobs as a batch, whose callbacks run once all have ended.

        It does not end while it is `open`: see `add_to_batch`.
        """
        document: dict[str, Any] = {
            "jobs": [job.document() for job in jobs],
            "failure_policy": failure_policy,
            "open": open,
        }
        for name, job in (("on_complete", on_complete), ("on_success", on_success)):
            if job is not None:
                document[name] = job.document()
        answer = yield from self._make_once("/v1/jobs/batch", document, idempotency_key)
        return read(_Batched, answer).batch

    @verb
    def add_to_batch(
        self,
        batch: BatchRef,
        jobs: Iterable[NewJob],
        *,
        open: bool = False,  # noqa: A002 - still more follow
        idempotency_key: str | None = None,
    ) -> Call[Sequence[Job]]:
        """Up to 1000 more jobs of an open batch, in order; its last ones, unless still `open`."""
        document = {"jobs": [job.document() for job in jobs], "open": open}
        path = place("batches", batch, "jobs")
        return read_items(
            Job, (yield from self._make_once(path, document, idempotency_key)), "jobs"
        )

    @verb
    def batch(self, batch_id: BatchRef) -> Call[Batch]:
        """The batch as it is now; NotFound when there is none."""
        return self._ask(Batch, place("batches", batch_id))

    @series
    def batches(self, *, limit: int | None = None) -> Series[Batch]:
        """The batches, newest first."""
        return self._pages(Batch, "/v1/batches", limit, {})

    @verb
    def cancel_batch(self, batch: BatchRef, reason: str | None = None) -> Call[Batch]:
        """What of it does not run is cancelled within a second, what runs is asked to end."""
        return self._tell(Batch, place("batches", batch, "cancel"), said(reason=reason))

    @verb
    def get(self, job: JobRef) -> Call[Job]:
        """The job as it is now; NotFound when there is none."""
        return self._ask(Job, place("jobs", job))

    @series
    def list(
        self, *, limit: int | None = None, full: bool = False, **filters: Unpack[JobFilters]
    ) -> Series[Job]:
        """The jobs that fit, newest first, page by page as they are needed, at most `limit`.

        They have no args and no result, unless `full`. Asked for no ids, it gives no jobs.
        """
        query = query_of(filters)
        if query.get("ids") != "":
            yield from self._pages(
                Job, "/v1/jobs", limit, {**query, **({"full": 1} if full else {})}
            )

    @series
    def children(self, job: JobRef, *, limit: int | None = None) -> Series[Job]:
        """The jobs that its handler has submitted, newest first, without args and results."""
        return self._pages(Job, place("jobs", job, "children"), limit, {})

    @verb
    def wait(self, job: JobRef, timeout: float | None = None) -> Call[Job]:
        """The job once it has ended, well or not. StillRunning after `timeout` seconds."""
        deadline = Deadline(timeout)
        while True:
            seconds = deadline.left(LONG_POLL)
            found = yield from self._read_after(job, seconds)
            if found.is_final:
                return found
            if deadline.left(LONG_POLL) <= 0:
                raise StillRunning(f"job {found.id} is {found.state} after {timeout} s")

    @series
    def follow(self, job: JobRef, *, after: int = 0, patience: float = 300.0) -> Series[Event]:
        """Each event of the job after that `seq`, once and in order, up to the one that ends it.

        It reconnects and goes on where it was, until the server is not heard of for `patience`
        seconds (Unreachable). Where a proxy refuses streams it asks again and again instead.
        """
        return Following(id_of(job), after, patience).events()

    @verb
    def events(self, job: JobRef, *, after: int = 0) -> Call[Sequence[Event]]:
        """The job's events after that `seq` so far."""
        return self._all(Event, place("jobs", job, "events"), after=after)

    @verb
    def attempts(self, job: JobRef) -> Call[Sequence[Attempt]]:
        """The job's starts, the running one included."""
        return self._all(Attempt, place("jobs", job, "attempts"))

    @verb
    def logs(self, job: JobRef, *, after: int = 0) -> Call[Sequence[LogLine]]:
        """What its handler has written, in events after that `seq`."""
        return self._all(LogLine, place("jobs", job, "logs"), after=after)

    @verb
    def explain(self, job: JobRef) -> Call[Explanation]:
        """Why the job does not run, as the dispatcher sees it, and what can be done about it."""
        return self._ask(Explanation, place("jobs", job, "explain"))

    @verb
    def job_deliveries(self, job: JobRef) -> Call[Sequence[Delivery]]:
        """What was sent to the webhook that the job's own submission named."""
        return self._all(Delivery, place("jobs", job, "deliveries"))

    @verb
    def cancel(self, job: JobRef, reason: str | None = None) -> Call[Job]:
        """It is cancelled, or asked to end if it runs. InvalidTransition when it has ended."""
        return self._tell(Job, place("jobs", job, "cancel"), said(reason=reason))

    @verb
    def retry(self, job: JobRef) -> Call[Job]:
        """A failed, cancelled or retrying job starts again, with fresh budgets."""
        return self._make(Job, place("jobs", job, "retry"))

    @verb
    def run_now(self, job: JobRef) -> Call[Job]:
        """A scheduled or retrying job does not wait for its time."""
        return self._make(Job, place("jobs", job, "run-now"))

    @verb
    def rerun(
        self,
        job: JobRef,
        args: Args | None = None,
        *,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> Call[Job]:
        """A new job that does the same, or with other args; as `submit`."""
        document = {} if args is None else {"args": as_json(args)}
        return (
            yield from self._accept(place("jobs", job, "rerun"), document, idempotency_key, wait)
        )

    @verb
    def delete(self, job: JobRef) -> Call[None]:
        """A job that has ended is gone, with its history."""
        return self._remove(place("jobs", job))

    def _accept(
        self, path: str, document: dict[str, Any], key: str | None, wait: float | None
    ) -> Call[Job]:
        deadline = Deadline(wait or 0.0)
        job = read(Job, (yield from self._make_once(path, document, key, wait or 0.0)))
        while not job.is_final and (left := deadline.left(LONG_POLL)):
            job = yield from self._read_after(job, left)
        return job

    def _read_after(self, job: JobRef, seconds: float) -> Call[Job]:
        """The job as soon as it is final, or as it is after so many seconds."""
        wait = (("wait", f"{seconds:.3f}"),)
        request = Request("GET", place("jobs", job), wait, extra_wait=seconds)
        return read(Job, (yield from call(request, self._patience)))


class _Batched(Answered):
    """What the answer to a batch holds beside its jobs."""

    batch: Batch
