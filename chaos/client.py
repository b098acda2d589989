"""A client as one should be: each submission has a key, and is repeated until it is answered."""

import http.client
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from chaos.book import Entry

ANSWERED = frozenset({200, 202})
COME_BACK = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
FOR_GOOD = frozenset(
    {"consumer-taken", "count-differs", "unique-conflict"}
)  # codes of 409: no twin in flight
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5  # seconds between two tries
READ_WITHIN = 60.0  # seconds
PAGE = 100  # ids a question


class Answer(NamedTuple):
    status: int
    body: Any


class Unanswered(Exception):
    """Nobody answered for as long as the client was willing to try."""


class Client:
    """One thread's. It goes round the addresses: where nobody answers it tries the next."""

    def __init__(
        self, urls: Sequence[str], key: str, *, timeout: float = 5.0, is_fresh: bool = False
    ) -> None:
        """`timeout`: seconds for an answer. `is_fresh`: a new connection for each request."""
        self._places = [urlsplit(url).netloc for url in urls]
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._timeout, self._is_fresh = timeout, is_fresh
        self._turn = random.randrange(len(urls))
        self._open: dict[str, http.client.HTTPConnection] = {}

    def submit(self, entry: Entry, patience: float) -> None:
        """The entry has an id, or a refusal; or neither, after `patience` seconds."""
        entry.sent_at = entry.sent_at or time.monotonic()
        headers = {"Idempotency-Key": entry.order.key}
        try:
            order = entry.order
            answer = self.ask(
                "POST", order.path, order.body, headers, patience=patience, entry=entry
            )
        except Unanswered:
            return
        if answer.status not in ANSWERED:
            entry.refusal = f"{answer.status} {answer.body}"
            return
        entry.answered_at = entry.answered_at or time.monotonic()
        made = answer.body["jobs"] if entry.order.event else [answer.body["id"]]
        entry.ids.extend(job_id for job_id in made if job_id not in entry.ids)

    def get(self, path: str, **query: str) -> Any:
        """The answer's document."""
        asked = f"{path}?{urlencode(query)}" if query else path
        answer = self.ask("GET", asked, patience=READ_WITHIN)
        return answer.body if answer.status in ANSWERED else None

    def jobs(self, ids: Sequence[str], *, full: bool = False) -> Iterator[dict[str, Any]]:
        """Those of them that the API knows."""
        shown = {"full": "1"} if full else {}
        for start in range(0, len(ids), PAGE):
            some = ",".join(ids[start : start + PAGE])
            yield from self.get("/v1/jobs", ids=some, limit=str(PAGE), **shown)["items"]

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        patience: float,
        entry: Entry | None = None,
    ) -> Answer:
        """The first answer that no retry would change. Repeats whatever it is asked."""
        end, pause = time.monotonic() + patience, FIRST_PAUSE
        while True:
            if entry is not None:
                entry.tries += 1
            try:
                answer = self._once(method, path, body, headers or {})
                if answer.status not in COME_BACK or _is_for_good(answer):
                    return answer
            except (OSError, http.client.HTTPException, ValueError):
                self._turn += 1
            if time.monotonic() + pause > end:
                raise Unanswered(f"{method} {path}")
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE)

    def close(self) -> None:
        """No connection is open."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _once(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> Answer:
        place = self._places[self._turn % len(self._places)]
        connection = self._open.get(place)
        if connection is None:
            connection = http.client.HTTPConnection(place, timeout=self._timeout)
            self._open[place] = connection
        is_over = True
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {**self._headers, **headers})
            response = connection.getresponse()
            content = response.read()
            is_over = self._is_fresh
            return Answer(response.status, json.loads(content) if content else None)
        finally:
            if is_over:
                connection.close()
                self._open.pop(place, None)


def _is_for_good(answer: Answer) -> bool:
    return isinstance(answer.body, dict) and answer.body.get("code") in FOR_GOOD
