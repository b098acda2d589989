"""A job's events to their end, whatever breaks on the way: as a stream, else by asking."""

import json
import random

from lading.client.calling import call, read, read_items
from lading.client.errors import UnexpectedAnswer, problem_in
from lading.client.exchange import (
    EVENT_STREAM,
    Answer,
    Call,
    Emit,
    Hear,
    Listen,
    Lost,
    Message,
    Pause,
    Request,
    Series,
)
from lading.client.models import FINAL, Event, Job
from lading.client.trying import Trying

LONG_POLL = 20.0  # seconds; proxies that give up after 30 are known, none that does after 20
_BYE = "bye"  # the server ends; another one takes over
_GATEWAY_TROUBLE = {502, 503, 504}


class Following:
    """One follower's place in a job's history. Each event after `after` comes once, in order."""

    def __init__(self, job_id: str, after: int, patience: float) -> None:
        """`patience`: seconds without any news from the server, after which it gives up."""
        self._path = f"/v1/jobs/{job_id}"
        self._seq, self._patience = after, patience
        self._trying = Trying(patience)
        self._last = ""  # type of the last event of this stream
        self._is_over = self._streams = self._plain_works = False

    def events(self) -> Series[Event]:
        """Ends after the final event, when the server has no more. Raises what `call` raises.

        NotFound when the job was deleted meanwhile.
        """
        self._streams = True
        while self._streams and not self._is_over:
            yield from self._stream()
        if not self._is_over:
            yield from self._poll()

    def _stream(self) -> Series[Event]:
        """One stream, as far as it goes."""
        request = self._request({"Accept": EVENT_STREAM, "Cache-Control": "no-store"})
        reply = yield Listen(request)
        if isinstance(reply, Lost):
            # What buffers whole answers never ends with this one.
            self._streams = not reply.was_silent
            yield Pause(self._trying.pause_after(request, reply))
        elif reply.status == 204:  # noqa: PLR2004 - nothing is left
            self._is_over = True
        elif reply.status == 200 and reply.media_type == EVENT_STREAM:  # noqa: PLR2004
            yield from self._listen(request)
        else:
            yield from self._refused(request, reply)

    def _listen(self, request: Request) -> Series[Event]:
        heard_nothing = True
        self._last = ""  # that the job has ended counts in the stream that says so
        while True:
            reply = yield Hear()
            if isinstance(reply, Lost):
                self._streams = not (reply.was_silent and heard_nothing)
                yield Pause(self._trying.pause_after(request, reply))
                return
            if reply is None:
                self._is_over = self._last in FINAL
                if not self._is_over:  # cut off by something that ends answers properly
                    yield Pause(self._trying.next_pause())
                return
            if heard_nothing:
                self._trying.heard()
                heard_nothing = self._plain_works = False
            if reply.type == _BYE:
                yield Pause(back_after(reply))
                return
            event = _event(reply)
            if event is not None and event.seq > self._seq + 1:
                yield Pause(self._trying.next_pause())
                return  # the next stream begins with what is missing
            if event is not None and event.seq > self._seq:
                yield from self._emit(event)

    def _emit(self, event: Event) -> Series[Event]:
        self._trying.succeeded()
        self._seq, self._last = event.seq, event.type
        yield Emit(event)

    def _refused(self, request: Request, answer: Answer) -> Series[Event]:
        """Lading's own refusals are final or pass; what stands between may refuse streams only."""
        if problem_in(answer) is not None:
            yield Pause(self._trying.pause_after(request, answer))
        elif answer.status in _GATEWAY_TROUBLE and not self._plain_works:
            yield from call(Request("GET", self._path), self._patience)
            self._plain_works = True  # so the next trouble is with streams
        else:
            self._streams = False

    def _poll(self) -> Series[Event]:
        """Ask for events each time that the job's version has changed."""
        job = yield from self._changed(None)
        while True:
            if job.seq > self._seq:
                answer = yield from call(self._request({}), self._patience)
                for event in read_items(Event, answer):
                    if event.seq > self._seq:
                        yield from self._emit(event)
            if job.is_final and job.seq <= self._seq:
                return
            job = (yield from self._changed(job)) or job

    def _changed(self, known: Job | None) -> Call[Job]:
        """The job: at once, or when it differs from what is known, or a while later."""
        if known is None:
            request = Request("GET", self._path)
        else:
            headers = {"If-None-Match": f'"{known.version}"'}
            wait = (("wait", str(LONG_POLL)),)
            request = Request("GET", self._path, wait, headers=headers, extra_wait=LONG_POLL)
        answer = yield from call(request, self._patience)
        if answer.status == 304 and known is not None:  # noqa: PLR2004
            return known
        return read(Job, answer)

    def _request(self, headers: dict[str, str]) -> Request:
        query = (("after", str(self._seq)),)
        return Request("GET", f"{self._path}/events", query, headers=headers)


def _event(message: Message) -> Event | None:
    """None: the message says only how soon to reconnect."""
    if not message.data:
        return None
    try:
        return Event.model_validate_json(message.data)
    except ValueError as error:
        raise UnexpectedAnswer(f"no event of a job: {message.data[:200]}") from error


def back_after(bye: Message) -> float:
    """Seconds: somewhere after half of what the server says, so that not all come at once."""
    try:
        seconds = float(json.loads(bye.data)["retry_after_ms"]) / 1000
    except (ValueError, KeyError, TypeError):
        seconds = 1.0
    return min(seconds, 30.0) * (0.5 + random.random())
