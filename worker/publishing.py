"""What a handler publishes: accepted with its transaction, or in one of its own."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python
from sqlalchemy import Connection

from jobs.bus.envelope import NewEvent, complete_event
from jobs.bus.facts import find_depths
from jobs.bus.pending import publish_later
from jobs.errors import InvalidSubmission
from jobs.lifecycle import Claim
from lading.outcomes import Fail


def checked(
    claim: Claim,
    type_: str,
    data: BaseModel | Mapping[str, Any] | Any,
    attributes: Mapping[str, str | None],
) -> NewEvent:
    """The event as it would be accepted; its source is the job, if the handler names none. Fail."""
    given = {name: value for name, value in attributes.items() if value is not None}
    document = {"type": type_, "source": f"/projects/{claim.project_id}/jobs/{claim.id}", **given}
    try:
        if data is not None:
            document["data"] = to_jsonable_python(data, by_alias=True)
        return complete_event(document, claim.project_id)
    except (InvalidSubmission, PydanticSerializationError) as error:
        raise Fail(f"an event is refused: {error}") from error


def record(connection: Connection, claim: Claim, event: NewEvent) -> UUID:
    """The event commits with the caller's transaction: its address, or its first twin's."""
    (depth,) = find_depths(connection, [claim.id]).values()
    return publish_later(connection, claim.project_id, event._replace(depth=depth), claim.id)
