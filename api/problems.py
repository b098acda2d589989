"""Which problems this API reports, and how one looks on the wire (RFC 9457)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import to_json
from starlette.responses import Response
from structlog.contextvars import get_contextvars

MEDIA_TYPE = "application/problem+json"
PAGE = "/docs/problems"  # `type` leads to a problem's paragraph there


class ProblemType(NamedTuple):
    """A stable code, and what stands behind it for people."""

    code: str
    status: int
    title: str


TYPES = {
    code: ProblemType(code, status, title)
    for code, status, title in (
        ("bad-request", 400, "The request cannot be read"),
        ("cursor-mismatch", 400, "The cursor belongs to another list"),
        ("idempotency-key-invalid", 400, "The Idempotency-Key header cannot be read"),
        ("unauthenticated", 401, "A valid API key is needed"),
        ("insufficient-scope", 403, "The API key does not allow this"),
        ("kind-not-allowed", 403, "The API key may not run this kind"),
        ("key-limits-exceeded", 403, "A key cannot make one that may do more than itself"),
        ("origin-not-allowed", 403, "Pages of this origin may not open a socket here"),
        ("not-found", 404, "There is nothing at this address"),
        ("job-not-found", 404, "There is no such job"),
        ("file-not-found", 404, "There is no such file"),
        ("batch-not-found", 404, "There is no such batch"),
        ("kind-not-found", 404, "There is no such kind"),
        ("queue-not-found", 404, "There is no such queue"),
        ("limit-not-found", 404, "There is no such limit"),
        ("key-not-found", 404, "There is no such API key"),
        ("webhook-not-found", 404, "There is no such webhook"),
        ("delivery-not-found", 404, "There is no such delivery"),
        ("event-not-found", 404, "There is no such event"),
        ("consumer-not-found", 404, "There is no such consumer"),
        ("trigger-not-found", 404, "There is no such trigger"),
        ("bulk-not-found", 404, "There is no such bulk operation"),
        ("project-not-found", 404, "There is no such project"),
        ("schedule-not-found", 404, "There is no such schedule"),
        ("method-not-allowed", 405, "This address does not take that method"),
        ("idempotency-in-flight", 409, "A request with this idempotency key is still in flight"),
        ("invalid-transition", 409, "The job's state does not allow this"),
        ("batch-closed", 409, "The batch takes no more, or has ended"),
        ("unique-conflict", 409, "Another job has the unique key"),
        ("lease-lost", 409, "The attempt does not hold the job any more"),
        ("bulk-ended", 409, "The bulk operation is done"),
        ("project-exists", 409, "There is a project with this id already"),
        ("schedule-exists", 409, "There is another schedule of this name"),
        ("schedule-from-code", 409, "The schedule stands in the code of its kind"),
        ("subscription-exists", 409, "The socket has a subscription with this id already"),
        ("webhook-off", 409, "The webhook is switched off"),
        ("delivery-pending", 409, "The delivery has not ended yet"),
        ("consumer-taken", 409, "Another member follows under this name"),
        ("trigger-in-code", 409, "The trigger stands in code, and changes with it"),
        ("count-differs", 409, "There are not as many as were confirmed"),
        ("job-deleted", 410, "The job of this idempotency key has been deleted"),
        ("consumer-deleted", 410, "The consumer was deleted"),
        ("payload-too-large", 413, "The request is larger than allowed"),
        ("unsupported-media-type", 415, "The body's media type is not the one that is needed"),
        ("range-not-satisfiable", 416, "The file does not have that range"),
        ("bulk-too-large", 422, "Too many jobs for one bulk operation"),
        ("validation-failed", 422, "The request does not fit"),
        ("idempotency-key-reused", 422, "The idempotency key was used for another request"),
        ("rate-limited", 429, "Too much at a time"),
        ("internal-error", 500, "Something went wrong on this side"),
        ("not-implemented", 501, "The server cannot do this yet"),
        ("database-unavailable", 503, "The database does not answer"),
        ("draining", 503, "The server is about to end"),
        ("broker-unavailable", 503, "The broker does not answer"),
        ("secret-key-missing", 503, "The server has no key to keep secrets with"),
        ("overloaded", 503, "More requests wait than can be served soon"),
    )
}


class Problem(Exception):
    """What is answered instead of what was asked for."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """`members` are added to the document; those that are None are left out."""
        super().__init__(detail)
        self.type, self.detail, self.headers = TYPES[code], detail, headers
        self.members = {name: value for name, value in members.items() if value is not None}

    def document(self) -> dict[str, Any]:
        """The JSON object, with the id of the request that is being answered."""
        return {
            "type": f"{PAGE}#{self.type.code}",
            "title": self.type.title,
            "status": self.type.status,
            "detail": self.detail,
            "code": self.type.code,
            "request_id": get_contextvars().get("request_id"),
            **self.members,
        }

    def response(self) -> Response:
        """The answer."""
        return Response(
            to_json(self.document()), self.type.status, self.headers, media_type=MEDIA_TYPE
        )
