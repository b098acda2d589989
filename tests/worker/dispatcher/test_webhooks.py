"""The dispatcher's service for webhooks."""

from datetime import timedelta
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import Engine

import kinds
from jobs.registry import load_registry
from jobs.vault import Vault
from jobs.webhooks import deliveries, endpoints
from jobs.webhooks.fanning import BusEvent, fan_out
from worker.dispatcher.webhooks import EVERY, Webhooks

REGISTRY = load_registry(kinds.MODULES)
PROJECT = "default"
EVENT = {"specversion": "1.0", "id": "1", "source": "tests", "type": "user.created", "data": {}}


def test_what_nobody_delivers_has_failed_and_who_was_switched_off_is_an_event(
    engine: Engine,
) -> None:
    vault = Vault(["k" * 40])
    with engine.begin() as connection:
        ids = [
            endpoints.create_endpoint(
                connection, vault, PROJECT, url="https://example.org/", event_types=[type_]
            )[0].id
            for type_ in ("user.*", "webhook.disabled")
        ]
        ((job,),) = fan_out(connection, REGISTRY, PROJECT, [BusEvent(EVENT)], process_id=uuid4())
        connection.execute(sa.text("DELETE FROM job WHERE id = :i"), {"i": job.id})
        connection.execute(
            sa.text(
                "UPDATE webhook_endpoint SET enabled = false, disabled_reason = 'failing',"
                " disabled_at = now(), is_told = false WHERE id = :i"
            ),
            {"i": ids[0]},
        )
    service = Webhooks(REGISTRY, timedelta(days=1))
    with engine.connect() as connection:
        assert service.turn(connection).most == EVERY
        assert service.turn(connection).most == EVERY
    with engine.connect() as connection:
        found = [
            deliveries.page_deliveries(connection, PROJECT, each, (), limit=9).deliveries
            for each in ids
        ]
    ((lost,), (told,)) = found
    assert (lost.state, lost.last_error) == ("failed", "its job was deleted")
    assert (told.event_type, told.state) == ("webhook.disabled", "pending")
    service = Webhooks(REGISTRY, timedelta())
    with engine.connect() as connection:
        service.turn(connection)
        page = deliveries.page_deliveries(connection, PROJECT, ids[0], (), limit=9)
    assert page.deliveries == []
