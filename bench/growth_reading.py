"""How long it takes to read where many jobs are: every page, filter and count that there is."""

import http.client
import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote

import psycopg

from bench.figures import Spread, spread
from bench.http import Address
from dev.ports import LOOPBACK

OK = 200


class Reading(NamedTuple):
    """One address, read again and again."""

    what: str
    milliseconds: Spread
    items: int | None  #: of a list's page


class Sample(NamedTuple):
    """Of the finished jobs."""

    job_id: str
    middle: datetime  #: half of them are younger


def read_all(address: Address, database_url: str, times: int) -> list[Reading]:
    """Each of them so many times, one after the other. AssertionError where one is refused."""
    sample = _sample(database_url)
    connection = http.client.HTTPConnection(LOOPBACK, address.port)
    found = []
    for path in _paths(sample):
        seconds, body = [], b""
        for _ in range(times + 1):
            began = time.monotonic()
            connection.request("GET", path, headers=dict(address.headers))
            answer = connection.getresponse()
            body = answer.read()
            seconds.append(time.monotonic() - began)
            assert answer.status == OK, (path, answer.status, body[:500])
        found.append(Reading(_shown(path, sample), spread(seconds[1:]), _items(body)))
    connection.close()
    return found


def _sample(database_url: str) -> Sample:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT id, created_at FROM job WHERE finished_at IS NOT NULL AND created_at <"
            " (SELECT min(created_at) + (max(created_at) - min(created_at)) / 2 FROM job)"
            " ORDER BY id DESC LIMIT 1"
        ).fetchone()
    assert row is not None
    return Sample(str(row[0]), row[1])


def _paths(sample: Sample) -> Iterator[str]:
    middle = quote(sample.middle.isoformat())
    hour_later = quote((sample.middle + timedelta(hours=1)).isoformat())
    states, kinds = ("queued", "succeeded", "failed", "failed,cancelled"), ("noop", "rare", "none")
    queues, labels = ("default", "bench-rare", "none"), ("tier=gold", "customer=21", "tier=none")
    filters = [
        "",
        "limit=200",
        "full=true",
        *(f"state={each}" for each in states),
        *(f"kind=bench.{each}" for each in kinds),
        *(f"queue={each}" for each in queues),
        *(f"label.{each}" for each in labels),
        f"created_before={middle}",
        f"created_after={middle}&created_before={hour_later}",
        f"ids={sample.job_id}",
        f"batch={sample.job_id}",
        f"schedule={sample.job_id}",
        "kind=bench.noop&state=succeeded",
        "kind=bench.noop&state=failed",
        "kind=bench.kind-9&state=failed",  # there are none, of many that failed and many of a kind
        "kind=bench.rare&state=queued",
        "queue=default&state=failed",
        "queue=bench-rare&state=failed",
        "queue=io&kind=bench.kind-9",
        "queue=io&kind=bench.noop",  # none again
        "label.tier=gold&state=failed",
        "label.tier=gold&kind=bench.rare",
        "label.customer=21&kind=bench.noop&state=succeeded",
        "label.tier=gold&label.customer=21&queue=io",
        f"kind=bench.noop&state=failed&created_before={middle}",
        f"queue=bench-rare&created_before={middle}",
    ]
    for each in filters:
        yield f"/v1/jobs?{each}" if each else "/v1/jobs"
    for part in ("", "/events", "/attempts", "/logs", "/children", "/explain"):
        yield f"/v1/jobs/{sample.job_id}{part}"
    yield from ("/v1/queues", "/v1/workers", "/v1/kinds", "/v1/audit", "/metrics", "/readyz")


def _shown(path: str, sample: Sample) -> str:
    """With words for what differs from run to run."""
    middle = sample.middle
    for moment, word in ((middle, "…"), (middle + timedelta(hours=1), "…")):
        path = path.replace(quote(moment.isoformat()), word)
    return f"`{path.replace(sample.job_id, 'ID')}`"


def _items(body: bytes) -> int | None:
    if not body.startswith(b"{"):
        return None
    found = json.loads(body).get("items")
    return None if found is None else len(found)
