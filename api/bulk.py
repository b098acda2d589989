"""One word to many jobs: previewed, confirmed by its count, visible while it runs, stoppable."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BeforeValidator, Field, model_validator

from api import operating
from api.bodies import Integer, Label, LabelKey, Moment, Text, _Body, _example, _is_number
from api.documents import job_document, json_response
from api.job_query import MOST_IDS
from api.paging import Page, find_place
from api.parts import actor_of, parts_of, principal_of
from api.promises import answer, problems
from api.strict import StrictRoute
from jobs.bulk import operations
from jobs.bulk.operations import MOST, USUAL_RATE, OperationView, Order
from jobs.bulk.words import Op
from jobs.queries import JobFilter
from jobs.states import JobState
from jobs.submissions import HIGHEST_PRIORITY
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["bulk operations"])

HIGHEST_RATE = 10_000  # jobs a second: more than dispatchers do
OperationId = Annotated[UUID, Path(description="The operation's id")]
_ASKED = problems(
    "bad-request",
    "bulk-too-large",
    "payload-too-large",
    "unsupported-media-type",
    "validation-failed",
)


class BulkFilter(_Body):
    """Which jobs, as in the query of `GET /v1/jobs`; what is left out does not narrow it."""

    state: list[JobState] = Field(default=[], max_length=len(JobState))
    kind: Text | None = None
    queue: Text | None = None
    label: Annotated[dict[LabelKey, Label], Field(max_length=10)] = Field(default={})
    created_after: Moment | None = None
    created_before: Moment | None = None
    ids: list[UUID] = Field(default=[], max_length=MOST_IDS)
    batch: UUID | None = None
    schedule: UUID | None = None

    def wanted(self) -> JobFilter:
        """The same as the domain takes it."""
        return JobFilter(
            states=self.state,
            kind=self.kind,
            queue=self.queue,
            labels=self.label,
            created_after=self.created_after,
            created_before=self.created_before,
            ids=self.ids,
            batch_id=self.batch,
            schedule_id=self.schedule,
        )


class NewPreview(_Body):
    """A question: which jobs it would mean."""

    model_config = _example({"op": "retry", "filter": {"state": ["failed"], "kind": "email.send"}})

    op: Op
    filter: BulkFilter


class NewBulk(NewPreview):
    """A word to many jobs, by whoever has counted them."""

    model_config = _example(
        {"op": "retry", "filter": {"state": ["failed"], "kind": "email.send"}, "expected_count": 7}
    )

    expected_count: Annotated[Integer, Field(ge=0, le=MOST)] = Field(
        description="As the preview said; if it is another one by now, nothing is done"
    )
    rate: Annotated[float, BeforeValidator(_is_number), Field(gt=0, le=HIGHEST_RATE)] = Field(
        default=USUAL_RATE, description="Jobs a second, at most"
    )
    priority: Annotated[Integer, Field(ge=0, le=HIGHEST_PRIORITY)] | None = Field(
        default=None, description="With `reprioritise`: the new one"
    )
    reason: Annotated[Text, Field(max_length=1000)] | None = Field(
        default=None, description="With `cancel`: stands in the `cancelled` events"
    )

    @model_validator(mode="after")
    def _says_what_its_word_needs(self) -> Self:
        if (self.op is Op.REPRIORITISE) != (self.priority is not None):
            raise ValueError("priority belongs to reprioritise, and is needed there")
        if self.reason is not None and self.op is not Op.CANCEL:
            raise ValueError("reason belongs to cancel")
        return self


@router.post(
    "/v1/bulk/preview",
    responses={200: answer("How many, and some of them", model=operating.BulkPreview), **_ASKED},
)
async def preview_bulk(request: Request, body: NewPreview) -> Response:
    """Count the jobs that an operation would mean now: those that the word can be said to."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    found = await parts.database.run(operations.preview, project_id, body.op, body.filter.wanted())
    flower_url = parts.settings.flower_url
    document = {
        "count": min(found.jobs, MOST),
        "is_capped": found.jobs > MOST,
        "sample": [job_document(job, flower_url, full=False) for job in found.sample],
    }
    return json_response(document)


@router.post(
    "/v1/bulk",
    status_code=202,
    responses={
        202: answer("It runs", "Location", model=operating.BulkOperation),
        **_ASKED,
        **problems("count-differs"),
    },
)
async def start_bulk(request: Request, body: NewBulk) -> Response:
    """Cancel, retry, delete or reprioritise exactly the jobs that fit now."""
    order = Order(
        body.op, body.filter.wanted(), body.expected_count, body.rate, body.priority, body.reason
    )
    actor = actor_of(request)
    made = await parts_of(request).database.change(
        actor, lambda made: Deed("bulk.start", made.id, _told(made)), operations.start, actor, order
    )
    document = _document(made)
    return json_response(document, 202, {"Location": document["links"]["self"]})


@router.get(
    "/v1/bulk",
    responses={
        200: answer("A page", "Link", model=operating.BulkOperations),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def list_bulk(request: Request, asked: Annotated[Page, Query()]) -> Response:
    """List the project's operations, newest first."""
    place, project_id = find_place(request, asked), principal_of(request).project_id
    found, last_id = await parts_of(request).database.run(
        operations.page_operations, project_id, limit=place.limit, before=place.before
    )
    return place.answer([_document(each) for each in found], last_id)


@router.get(
    "/v1/bulk/{bulk_id}",
    responses={
        200: answer("The operation", model=operating.BulkOperation),
        **problems("bulk-not-found"),
    },
)
async def read_bulk(request: Request, bulk_id: OperationId) -> Response:
    """Read how far an operation is."""
    project_id = principal_of(request).project_id
    found = await parts_of(request).database.run(operations.get_operation, project_id, bulk_id)
    return json_response(_document(found))


@router.post(
    "/v1/bulk/{bulk_id}/stop",
    responses={
        200: answer("No job has its turn any more", model=operating.BulkOperation),
        **problems("bulk-not-found", "bulk-ended"),
    },
)
async def stop_bulk(request: Request, bulk_id: OperationId) -> Response:
    """Stop an operation. What it has done stays done."""
    parts, actor = parts_of(request), actor_of(request)

    def deed(stopped: OperationView | None) -> Deed | None:
        return None if stopped is None else Deed("bulk.stop", bulk_id, {"done": stopped.done})

    stopped = await parts.database.change(actor, deed, operations.stop, actor.project_id, bulk_id)
    if stopped is None:
        stopped = await parts.database.run(operations.get_operation, actor.project_id, bulk_id)
    return json_response(_document(stopped))


def _document(operation: OperationView) -> dict[str, Any]:
    document = operation._asdict()
    actor = {"key_id": document.pop("key_id"), "name": document.pop("key_name")}
    path = f"/v1/bulk/{operation.id}"
    return {**document, "actor": actor, "links": {"self": path, "stop": f"{path}/stop"}}


def _told(operation: OperationView) -> dict[str, Any]:
    """What the audit trail says of it."""
    names: tuple[Literal["op", "filter", "total", "priority"], ...]
    names = ("op", "filter", "total", "priority")
    return {name: getattr(operation, name) for name in names}
