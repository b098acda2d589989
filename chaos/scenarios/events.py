"""Events and their triggers: what was accepted has made its jobs once, whatever is killed."""

import json
from contextlib import suppress

from chaos.book import Order
from chaos.client import Client
from chaos.scenario import scenario
from chaos.scenarios.servers import kill_redis, wipe_redis
from chaos.stage import LONGEST, Stage
from chaos.waiting import NotInTime, until

SAID = "chaos.said"  # the type of the load's events
RATE = 25.0  # events a second, each of which makes two jobs
ROUNDS = 3  # of all faults
BETWEEN = 1.0  # seconds
FACTS_WITHIN = 60.0  # seconds from the last fault until each end has made its job
PAGE = 200
_TRIGGERS = (
    {"type": SAID, "kind": "chaos.work", "labels": {"of": "event"}},
    {
        "type": "job.succeeded",
        "kind": "chaos.io",
        "filter": {"data.labels.of": "event"},
        "args": {"token": "data.job_id", "ms": 1},
        "labels": {"of": "fact"},
    },
)


@scenario(
    "events",
    title="events sent again with the same ids while API, dispatcher, worker and Redis are killed"
    " and Redis forgets, 3 times each",
    plain="has none",
    seconds=30,
)
def publish_under_fire(stage: Stage) -> None:
    platform, client = stage.platform, stage.client()
    for trigger in _TRIGGERS:
        made = client.ask("POST", "/v1/triggers", trigger, patience=10.0)
        stage.check(made.status == 201, f"no trigger: {json.dumps(made.body)}")  # noqa: PLR2004
    orders = [_order(stage) for _ in range(round(RATE * LONGEST))]
    load = stage.load(RATE, LONGEST, orders=orders)
    for number in range(ROUNDS):
        for keeper in (
            platform.apis[number % len(platform.apis)],
            platform.dispatchers[0],
            platform.workers[number % len(platform.workers)],
        ):
            stage.wait(BETWEEN)
            stage.kill(keeper)
        stage.wait(BETWEEN)
        wipe_redis(stage)
        stage.wait(BETWEEN)
        kill_redis(stage)
    load.stop()
    load.join()
    _await_facts(stage, client)
    client.close()


def _order(stage: Stage) -> Order:
    return stage.order("chaos.work", {"ms": 5}, event=SAID)


def _await_facts(stage: Stage, client: Client) -> None:
    """Each job's end has made one job, which names it."""
    wanted = sorted(entry.id for entry in stage.book.accepted)
    with suppress(NotInTime):
        until(lambda: len(_told(client)) >= len(wanted), within=FACTS_WITHIN, every=1)
    stage.wait(1)  # for one too many
    told = sorted(_told(client))
    stage.check(len(told) == len({*told}), f"{len(told) - len({*told})} ends were told twice")
    missing = {*wanted} - {*told}
    stage.check(not missing, f"{len(missing)} of {len(wanted)} ends have made no job")


def _told(client: Client) -> list[str]:
    """The jobs whose ends have made others."""
    found: list[str] = []
    query = {"label.of": "fact", "limit": str(PAGE), "full": "1"}
    while True:
        page = client.get("/v1/jobs", **query)
        found += [job["args"]["token"] for job in page["items"]]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]
