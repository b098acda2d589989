"""Deliveries over HTTP: listed, told in full, tried out, made again."""

import json
from collections.abc import Iterable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BeforeValidator, Field

from api.documents import json_response, rows_document
from api.job_query import split
from api.jobs import JobId
from api.paging import Page, find_place
from api.parts import Parts, actor_of, parts_of, principal_of
from api.promises import answer, problems
from api.strict import StrictRoute
from api.webhooks import answers
from api.webhooks.bodies import ReplaySince
from api.webhooks.endpoints import SENT, WebhookId
from jobs.enqueue import created
from jobs.trail.record import Deed
from jobs.views import JobView
from jobs.webhooks import deliveries
from jobs.webhooks.deliveries import DeliveryState, DeliveryView
from jobs.webhooks.signing import message_id

router = APIRouter(route_class=StrictRoute, tags=["webhooks"])

DeliveryId = Annotated[UUID, Path(description="The delivery's id")]
MOST_REPLAYED = 1000  # in one request: some hundred milliseconds
_MADE = {
    202: answer("It is about to be delivered", model=answers.Delivery),
    **problems("webhook-not-found", "webhook-off"),
}


class DeliveryQuery(Page):
    """Which deliveries."""

    state: Annotated[list[DeliveryState], BeforeValidator(split)] = Field(
        default=[], description="Of these states; may be separated by commas"
    )


@router.get(
    "/v1/webhooks/{webhook_id}/deliveries",
    responses={
        200: answer("A page", "Link", model=answers.DeliveryPage),
        **problems("cursor-mismatch", "webhook-not-found", "validation-failed"),
    },
)
async def list_deliveries(
    request: Request, webhook_id: WebhookId, asked: Annotated[DeliveryQuery, Query()]
) -> Response:
    """List a webhook's deliveries, newest first. `next_cursor: null` is the only end."""
    place = find_place(request, asked)
    page = await parts_of(request).database.run(
        deliveries.page_deliveries,
        principal_of(request).project_id,
        webhook_id,
        asked.state,
        limit=place.limit,
        before=place.before,
    )
    return place.answer([_document(view) for view in page.deliveries], page.last_id)


@router.get(
    "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}",
    responses={
        200: answer("The delivery", model=answers.DeliveryStory),
        **problems("delivery-not-found"),
    },
)
async def read_delivery(
    request: Request, webhook_id: WebhookId, delivery_id: DeliveryId
) -> Response:
    """Read a delivery: what is sent, and how each attempt went."""
    story = await parts_of(request).database.run(
        deliveries.get_story, principal_of(request).project_id, webhook_id, delivery_id
    )
    document = {
        **_document(story.delivery),
        "payload": json.loads(story.body),
        "history": rows_document(story.attempts)["items"],
    }
    return json_response(document)


@router.post("/v1/webhooks/{webhook_id}/test", status_code=202, responses=_MADE)
async def test_webhook(request: Request, webhook_id: WebhookId) -> Response:
    """Send the webhook an event of the type `webhook.test`, whatever types it asks for."""
    parts, actor = parts_of(request), actor_of(request)
    view, jobs = await parts.database.change(
        actor,
        Deed("webhook.test", webhook_id),
        deliveries.send_test,
        parts.registry,
        actor.project_id,
        webhook_id,
        process_id=parts.removals_id,
    )
    _tell(parts, actor.project_id, jobs)
    return json_response(_document(view), 202)


@router.post(
    "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    responses={**_MADE, **problems("delivery-not-found", "webhook-off", "delivery-pending")},
)
async def replay_delivery(
    request: Request, webhook_id: WebhookId, delivery_id: DeliveryId
) -> Response:
    """Deliver again what has been delivered or has failed, with the same `webhook-id`."""
    parts, actor = parts_of(request), actor_of(request)
    jobs = await parts.database.change(
        actor,
        Deed("webhook.replay", webhook_id, {"delivery_id": str(delivery_id)}),
        deliveries.replay,
        parts.registry,
        actor.project_id,
        webhook_id,
        delivery_id,
        process_id=parts.removals_id,
    )
    _tell(parts, actor.project_id, jobs)
    story = await parts.database.run(
        deliveries.get_story, actor.project_id, webhook_id, delivery_id
    )
    return json_response(_document(story.delivery), 202)


@router.post(
    "/v1/webhooks/{webhook_id}/replay",
    status_code=202,
    responses={
        202: answer("They are about to be delivered", model=answers.Replayed),
        **problems(*SENT, "webhook-not-found", "webhook-off"),
    },
)
async def replay_failed(request: Request, webhook_id: WebhookId, body: ReplaySince) -> Response:
    """Deliver again what has failed since a time, the oldest 1,000 first."""
    parts, actor = parts_of(request), actor_of(request)
    jobs = await parts.database.change(
        actor,
        lambda made: Deed(
            "webhook.replay", webhook_id, {"since": body.since.isoformat(), "count": len(made)}
        ),
        deliveries.replay_failed,
        parts.registry,
        actor.project_id,
        webhook_id,
        body.since,
        limit=MOST_REPLAYED,
        process_id=parts.removals_id,
    )
    _tell(parts, actor.project_id, jobs)
    return json_response({"replayed": len(jobs), "has_more": len(jobs) == MOST_REPLAYED}, 202)


@router.get(
    "/v1/jobs/{job_id}/deliveries",
    responses={
        200: answer("The deliveries", model=answers.JobDeliveries),
        **problems("job-not-found"),
    },
)
async def read_job_deliveries(request: Request, job_id: JobId) -> Response:
    """List what was sent to the webhook that a job's own submission named."""
    project_id = principal_of(request).project_id
    found = await parts_of(request).database.run(deliveries.list_of_job, project_id, job_id)
    return json_response({"items": [_document(view) for view in found]})


def _document(view: DeliveryView) -> dict[str, Any]:
    return {**view._asdict(), "webhook_id": message_id(view.id)}


def _tell(parts: Parts, project_id: str, jobs: Iterable[JobView]) -> None:
    """The jobs start at once, and whoever listens hears of them."""
    made = [*jobs]
    parts.hints.tell(created(project_id, job) for job in made)
    parts.hints.wake(sorted({job.queue for job in made}))
