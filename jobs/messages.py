"""A bell as a message: Celery's protocol 2 as kombu's Redis transport lays it down, to the byte.

A lone job waits for its message, and their own publishers take ten times as long to make one: they
could send any task anywhere. Tests hold each byte against what those send.
https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

import json
from base64 import b64encode
from functools import lru_cache
from uuid import uuid4

MOST_FORMS = 1000  # a queue's kinds at some priorities: some hundred bytes each

#: What a task may have beside its arguments, and an attempt has not.
_EMBEDDED = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'


def write(
    queue: str,
    kind: str,
    attempts: list[tuple[str, int]],
    *,
    task: str,
    place: int,
    is_limited: bool,
    origin: str,
) -> str:
    """The message that has the worker make the `attempts`, of which the first is called `task`.

    `place` is what Redis calls the priority: 0 is heard first. `origin` is who sends it.
    """
    count = len(attempts)
    shown = f"({count} attempt{'s' if count > 1 else ''})"  # to Flower; the task id says the rest
    named = '{"is_limited": true}' if is_limited else "{}"
    body = f"[{json.dumps([attempts])}, {named}, {_EMBEDDED}]"
    encoded = b64encode(body.encode()).decode()
    return _form(queue, kind, place, origin) % (encoded, task, task, shown, task, uuid4())


@lru_cache(MOST_FORMS)
def _form(queue: str, kind: str, place: int, origin: str) -> str:
    """All but the body, the task's name three times, how its arguments show, and a tag."""
    whole = {
        "body": "%s",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": _verbatim(kind),
            "id": "%s",
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": "%s",
            "parent_id": None,
            "argsrepr": "%s",
            "kwargsrepr": "{}",
            "origin": _verbatim(origin),
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": "%s",
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": _verbatim(queue)},
            "priority": place,
            "body_encoding": "base64",
            "delivery_tag": "%s",
        },
    }
    return json.dumps(whole)


def _verbatim(name: str) -> str:
    return name.replace("%", "%%")
