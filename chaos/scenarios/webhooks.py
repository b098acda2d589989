"""Events told to receivers that fail, hang or are gone, while whoever tells them dies."""

from collections import Counter, defaultdict
from typing import Any

from chaos.client import Client
from chaos.keeper import Keeper
from chaos.receiver import GONE_PATH, NO_CONTENT, UNAUTHORISED, Receiver
from chaos.scenario import scenario
from chaos.stage import LONGEST, PATIENCE, Stage
from chaos.waiting import until

SAID, ENDED, OFF = "chaos.told", "job.succeeded", "webhook.disabled"
PATH = "/hooks"
ROUNDS = 2
BETWEEN = 0.7  # seconds
EVENTS = 6  # that are published before each kill
CREATED, OK = 201, 200
TOLD_WITHIN = 90.0  # seconds: a request that hangs takes 20, and the second attempt 5 more
_DELIVERIES = """
SELECT state, count(*) FROM webhook_delivery WHERE endpoint_id = %s GROUP BY 1 ORDER BY 1
"""
_DISABLED = """
SELECT count(*) FROM cloud_event
WHERE envelope ->> 'type' = %s AND envelope ->> 'subject' = %s
"""


@scenario(
    "webhooks",
    title="webhooks to a receiver that fails, hangs and is gone; api, dispatcher, and workers of"
    f" both pools killed, {ROUNDS} times each",
    plain="has none",
    seconds=50,
)
def tell_under_fire(stage: Stage) -> None:
    client = stage.client()
    with Receiver().serving() as receiver:
        hooks = _hook(stage, client, receiver, PATH, [SAID, ENDED, OFF])
        gone = _hook(stage, client, receiver, GONE_PATH, [SAID])
        load = stage.load(rate=5, seconds=LONGEST)
        said: list[str] = []
        for number in range(ROUNDS):
            for victim in _victims(stage, number):
                said += _say(stage, client)
                stage.platform.await_ready(victim)
                stage.wait(BETWEEN)
                stage.kill(victim)
        said += _say(stage, client)
        load.stop()
        load.join()
        stage.finish(stage.book.accepted)
        expected = len(said) + len(stage.book.accepted) + 1

        def is_told() -> bool:
            return len(_taken(receiver)) >= expected and not _pending(stage, hooks)

        until(is_told, within=TOLD_WITHIN, every=0.5)
        _judge(stage, receiver, said)
        _judge_gone(stage, client, gone)
        states = stage.platform.query(_DELIVERIES, hooks)
        stage.check([state for state, _ in states] == ["delivered"], f"deliveries are {states}")
        for each in (hooks, gone):
            client.ask("DELETE", f"/v1/webhooks/{each}", patience=PATIENCE)
    client.close()


def _victims(stage: Stage, number: int) -> list[Keeper]:
    platform = stage.platform
    return [
        platform.apis[number % len(platform.apis)],
        platform.dispatchers[0],
        platform.io_workers[0],
        platform.workers[number % len(platform.workers)],
        platform.dispatchers[0],
    ]


def _hook(stage: Stage, client: Client, receiver: Receiver, path: str, types: list[str]) -> str:
    body = {"url": f"{receiver.url}{path}", "event_types": types}
    made = client.ask("POST", "/v1/webhooks", body, patience=PATIENCE)
    stage.check(made.status == CREATED, f"no webhook: {made}")
    receiver.secrets[path] = made.body["secret"]
    return str(made.body["id"])


def _say(stage: Stage, client: Client) -> list[str]:
    """The events' ids, each accepted."""
    ids = [f"{stage.random.getrandbits(128):032x}" for _ in range(EVENTS)]
    for each in ids:
        event = {"type": SAID, "data": {"of": each}}
        answer = client.ask(
            "POST", "/v1/events", event, {"Idempotency-Key": each}, patience=PATIENCE
        )
        stage.check(answer.status < 300, f"an event was answered {answer}")  # noqa: PLR2004
    return ids


def _taken(receiver: Receiver) -> set[tuple[str, str]]:
    return {each.event for each in receiver.of(PATH) if each.status == NO_CONTENT}


def _pending(stage: Stage, webhook_id: str) -> bool:
    states = dict(stage.platform.query(_DELIVERIES, webhook_id))
    return "pending" in states


def _judge(stage: Stage, receiver: Receiver, said: list[str]) -> None:
    """Each event came, and was taken, with one webhook-id."""
    requests = receiver.of(PATH)
    stage.check(UNAUTHORISED not in {each.status for each in requests}, "a signature is wrong")
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in requests:
        ids[each.event].add(each.webhook_id)
    twice = [event for event, names in ids.items() if len(names) > 1]
    stage.check(not twice, f"{len(twice)} events came with several webhook-ids")
    shared = len(ids) - len({name for names in ids.values() for name in names})
    stage.check(not shared, f"{shared} events share a webhook-id with others")
    taken = [each for each in requests if each.status == NO_CONTENT]
    told = {event_id for _, event_id in (e.event for e in taken if e.type == SAID)}
    ends = {e.event[0].rpartition("/")[2] for e in taken if e.type == ENDED}
    lost = {*said} - told
    stage.check(not lost, f"{len(lost)} of {len(said)} events were not told")
    missing = {entry.id for entry in stage.book.accepted} - ends
    stage.check(not missing, f"{len(missing)} of {len(stage.book.accepted)} ends were not told")
    stage.check(sum(e.type == OFF for e in taken), "nobody was told that a webhook is off")
    statuses = Counter(each.status for each in requests)
    again = len(taken) - len({each.event for each in taken})
    answers = ", ".join(f"{count} × {status or 'none'}" for status, count in statuses.items())
    stage.tell(f"{len(ids)} events told, {again} of them again; answers: {answers}")


def _judge_gone(stage: Stage, client: Client, webhook_id: str) -> None:
    """It was switched off, once, and nothing waits for it."""
    found: dict[str, Any] = client.get(f"/v1/webhooks/{webhook_id}")
    why = found["enabled"], found["disabled_reason"]
    stage.check(why == (False, "gone"), f"a webhook that is gone is {why}")
    query = stage.platform.query
    until(lambda: not _pending(stage, webhook_id), within=TOLD_WITHIN, every=0.5)
    stage.check(dict(query(_DELIVERIES, webhook_id)).keys() == {"failed"}, "it was delivered")
    stage.check(query(_DISABLED, OFF, webhook_id) == [(1,)], "it was not said once that it is off")
