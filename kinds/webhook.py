"""webhook.deliver: one event brought to one receiver, on the schedule of Standard Webhooks.

Lading makes these jobs itself, one for each delivery (jobs/webhooks/fanning.py). An attempt begins
and ends in a transaction of its own, around the request: a process that dies in between leaves an
attempt without an end, and the next one sends the same webhook-id again.
"""

import random
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobs.settings import load_settings
from lading import AsyncJobContext, Cancel, Fail, Retry, RetryPolicy, job

if TYPE_CHECKING:
    from jobs.vault import Vault
    from jobs.webhooks.sending import Outcome, Parcel

#: Between the attempts, says the specification: the last one comes after three days.
WAITS = (
    *(timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2)),
    *(timedelta(hours=5), timedelta(hours=10), timedelta(hours=14), timedelta(hours=20)),
    timedelta(hours=24),
)
JITTER = 0.1  # of a wait, to either side: what failed together does not come back together
GONE = 410
TIMEOUT = timedelta(seconds=60)  # of an attempt; its request has 20 of them


class WebhookDeliverArgs(BaseModel):
    """Which delivery to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"delivery_id": "0198c1e2-0000-7000-8000-000000000000"}]},
    )

    delivery_id: UUID = Field(description="Made by Lading, for this job alone")


class WebhookDeliverResult(BaseModel):
    """How the receiver answered."""

    status: int
    seconds: float


@job(
    "webhook.deliver",
    queue="io",
    max_attempts=len(WAITS) + 1,
    timeout=TIMEOUT,
    retry=RetryPolicy(base=5, cap=24 * 3600),
)
async def deliver(context: AsyncJobContext, args: WebhookDeliverArgs) -> WebhookDeliverResult:
    """Bring the event to its receiver. Jobs of this kind are made by Lading alone."""
    from kinds.webhook_request import send  # noqa: PLC0415 - httpx2; the api needs none

    parcel = await _begin(context, args.delivery_id)
    outcome = await send(parcel, load_settings().http_allow_networks)
    next_in = _next_in(context, outcome)
    await _record(context, parcel, outcome, next_in)
    if outcome.error is None:
        assert outcome.status is not None
        return WebhookDeliverResult(status=outcome.status, seconds=outcome.seconds)
    if next_in is None:
        raise Fail(outcome.error)
    raise Retry(outcome.error, after=next_in)


async def _begin(context: AsyncJobContext, delivery_id: UUID) -> "Parcel":
    from jobs.webhooks import sending  # noqa: PLC0415 - tables; the api needs none for a schema

    begun: Parcel | str = "another attempt has begun"
    async with context.transaction(f"begin {context.attempt}") as session:
        begun = await session.run_sync(
            lambda s: sending.begin(s.connection(), _vault(), delivery_id, context.job_id)
        )
    if isinstance(begun, str):
        raise Cancel(begun)
    return begun


async def _record(
    context: AsyncJobContext, parcel: "Parcel", outcome: "Outcome", next_in: timedelta | None
) -> None:
    from jobs.webhooks import sending  # noqa: PLC0415 - see above

    disable_after = timedelta(seconds=load_settings().webhook_disable_after_seconds)
    async with context.transaction(f"record {context.attempt}") as session:
        await session.run_sync(
            lambda s: sending.record(
                s.connection(), parcel, outcome, next_in=next_in, disable_after=disable_after
            )
        )


def _next_in(context: AsyncJobContext, outcome: "Outcome") -> timedelta | None:
    """The wait until the next attempt, not before the receiver's Retry-After; None: no more."""
    if outcome.error is None or outcome.status == GONE or context.is_last_attempt:
        return None
    wait = WAITS[min(context.failures, len(WAITS) - 1)] * random.uniform(1 - JITTER, 1 + JITTER)
    return max(wait, outcome.retry_after or wait)


@cache
def _vault() -> "Vault":
    from jobs.vault import Vault  # noqa: PLC0415 - cryptography, once a process that delivers

    return Vault.of(load_settings())
