"""What those who follow the events of the bus get back."""

from datetime import datetime
from typing import Any
from uuid import UUID

from lading.client.models import Answered


class StreamedEvent(Answered):
    """An event as it was accepted."""

    id: UUID  #: its address at the server; the publisher's id is in `event`
    event: dict[str, Any]  #: the CloudEvent
    received_at: datetime
    depth: int
    error: str | None = None
    job_id: UUID | None = None  #: whose handler published it


class StreamPage(Answered):
    """The next events, and the position behind them."""

    items: list[StreamedEvent]
    position: str
    member: UUID | None = None


class Consumer(Answered):
    """A name under which somebody follows events."""

    name: str
    types: list[str]
    position: str  #: acknowledged
    member: UUID
    joined_at: datetime
    acknowledged_at: datetime | None = None
    created_at: datetime
