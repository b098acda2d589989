"""Endpoints over HTTP: made, shown, changed, rotated, deleted."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Request, Response

from api.documents import json_response
from api.paging import Page, find_place
from api.parts import actor_of, parts_of, principal_of
from api.promises import answer, problems
from api.sealing import require_tls
from api.strict import StrictRoute
from api.webhooks import answers
from api.webhooks.bodies import NewWebhook, Rotation, WebhookChange
from jobs.trail.record import Deed
from jobs.webhooks import endpoints
from jobs.webhooks.endpoints import EndpointView

router = APIRouter(route_class=StrictRoute, tags=["webhooks"])

WebhookId = Annotated[UUID, Path(description="The webhook's id")]
SENT = ("bad-request", "payload-too-large", "unsupported-media-type", "validation-failed")


@router.post(
    "/v1/webhooks",
    status_code=201,
    responses={
        201: answer(
            "The webhook, with its secret this once", "Location", model=answers.MadeWebhook
        ),
        **problems(*SENT, "secret-key-missing", "database-unavailable"),
    },
)
async def make_webhook(request: Request, body: NewWebhook) -> Response:
    """Tell an address of events from now on. Deliveries are signed as Standard Webhooks are."""
    parts, actor = parts_of(request), actor_of(request)
    require_tls(parts.settings, str(body.url), "#/url")
    view, secret = await parts.database.change(
        actor,
        lambda made: Deed("webhook.create", made[0].id, {"url": made[0].url}),
        endpoints.create_endpoint,
        parts.vault,
        actor.project_id,
        url=str(body.url),
        event_types=body.event_types,
        description=body.description,
        enabled=body.enabled,
    )
    return _with_secret(view, secret, 201, {"Location": f"/v1/webhooks/{view.id}"})


@router.get(
    "/v1/webhooks",
    responses={
        200: answer("A page", "Link", model=answers.WebhookPage),
        **problems("cursor-mismatch", "validation-failed"),
    },
)
async def list_webhooks(request: Request, asked: Annotated[Page, Query()]) -> Response:
    """List the project's webhooks, newest first, without their secrets."""
    place, project_id = find_place(request, asked), principal_of(request).project_id
    page = await parts_of(request).database.run(
        endpoints.page_endpoints, project_id, limit=place.limit, before=place.before
    )
    return place.answer([_document(view) for view in page.endpoints], page.last_id)


@router.get(
    "/v1/webhooks/{webhook_id}",
    responses={
        200: answer("The webhook", model=answers.Webhook),
        **problems("webhook-not-found"),
    },
)
async def read_webhook(request: Request, webhook_id: WebhookId) -> Response:
    """Read a webhook, without its secrets."""
    project_id = principal_of(request).project_id
    found = await parts_of(request).database.run(endpoints.get_endpoint, project_id, webhook_id)
    return json_response(_document(found))


@router.patch(
    "/v1/webhooks/{webhook_id}",
    responses={
        200: answer("It is so", model=answers.Webhook),
        **problems(*SENT, "webhook-not-found"),
    },
)
async def change_webhook(request: Request, webhook_id: WebhookId, body: WebhookChange) -> Response:
    """Change what is named, or switch the webhook off or on."""
    parts, actor = parts_of(request), actor_of(request)
    changes = body.changes()
    if "url" in changes:
        require_tls(parts.settings, str(body.url), "#/url")
    view = await parts.database.change(
        actor,
        Deed("webhook.change", webhook_id, changes),
        endpoints.change_endpoint,
        actor.project_id,
        webhook_id,
        changes,
    )
    return json_response(_document(view))


@router.delete(
    "/v1/webhooks/{webhook_id}",
    status_code=204,
    response_class=Response,
    responses=problems("webhook-not-found"),
)
async def delete_webhook(request: Request, webhook_id: WebhookId) -> Response:
    """Delete a webhook with its secrets and deliveries; what is under way may still arrive."""
    actor = actor_of(request)
    deed = Deed("webhook.delete", webhook_id)
    await parts_of(request).database.change(
        actor, deed, endpoints.delete_endpoint, actor.project_id, webhook_id
    )
    return Response(status_code=204)


@router.post(
    "/v1/webhooks/{webhook_id}/rotate",
    responses={
        200: answer("With its new secret, this once", model=answers.MadeWebhook),
        **problems(*SENT, "webhook-not-found", "secret-key-missing", "database-unavailable"),
    },
)
async def rotate_webhook_secret(
    request: Request, webhook_id: WebhookId, body: Annotated[Rotation | None, Body()] = None
) -> Response:
    """Make a new secret. Until the overlap is over, deliveries carry a signature of each."""
    parts, actor = parts_of(request), actor_of(request)
    overlap = (body or Rotation()).overlap
    view, secret = await parts.database.change(
        actor,
        Deed("webhook.rotate", webhook_id, {"overlap": overlap}),
        endpoints.rotate_secret,
        parts.vault,
        actor.project_id,
        webhook_id,
        timedelta(seconds=overlap),
    )
    return _with_secret(view, secret, 200, {})


def _with_secret(view: EndpointView, secret: str, status: int, headers: dict[str, str]) -> Response:
    document = {**_document(view), "secret": secret}
    return json_response(document, status, {**headers, "Cache-Control": "no-store"})


def _document(view: EndpointView) -> dict[str, Any]:
    return view._asdict()
