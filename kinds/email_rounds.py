"""A mail to several people can need several rounds: whom a round reached is left out of the next.

Each round that reached somebody and left somebody for later is a step of the job, `round 1`,
`round 2` …, written after the mail server's yes.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import count
from typing import Any

from pydantic import TypeAdapter

from jobs.settings import Settings
from kinds.email_delivery import Delivery, Parcel, deliver
from lading import Fail, JobContext, Retry

_DELIVERY = TypeAdapter(Delivery)


class _NotYetError(Exception):
    """The step has not been made."""


def play_round(
    context: JobContext, parcel: Parcel, recipients: Sequence[str], settings: Settings
) -> Delivery:
    """All rounds in one: the mail server has the mail for somebody, now or since an earlier one.

    Retry while there is somebody to try again, except on the last attempt. Fail when nobody was
    accepted and nobody will be.
    """
    number, past = _past(context)
    waiting = [who for who in recipients if who not in {*past.accepted, *past.refused}]
    context.check()
    now = _deliver(parcel, waiting, settings, reached=bool(past.accepted))
    if now.accepted:
        context.log("info", "taken by the mail server", to=now.accepted, reply=now.reply)
    if now.later and not context.is_last_attempt:
        if now.accepted:
            context.step(_name(number), lambda: asdict(now))
        raise Retry(_said(now.later))
    done = _together(past, now)
    if not done.accepted:
        raise Retry(_said(done.refused)) if now.later else Fail(_said(done.refused))
    return done


def _deliver(
    parcel: Parcel, waiting: Sequence[str], settings: Settings, *, reached: bool
) -> Delivery:
    """One round. Once somebody was `reached`, what fails fails for those who wait, not the job."""
    try:
        return deliver(parcel, waiting, settings)
    except (Fail, Retry) as error:
        if not reached:
            raise
        said = dict.fromkeys(waiting, str(error))
        return Delivery(refused=said) if isinstance(error, Fail) else Delivery(later=said)


def _past(context: JobContext) -> tuple[int, Delivery]:
    """The number of the round to come, and what those of earlier attempts came to."""
    past = Delivery()
    if context.attempt == 1:
        return 1, past
    for number in count(1):
        try:
            stored = context.step(_name(number), _not_yet)
        except _NotYetError:
            break
        past = _together(past, replace(_DELIVERY.validate_python(stored), later={}))
    return number, past


def _name(number: int) -> str:
    return f"round {number}"


def _not_yet() -> dict[str, Any]:
    raise _NotYetError  # so that asking for a step does not store one


def _together(past: Delivery, now: Delivery) -> Delivery:
    """Both, those left for later among the refused."""
    refused = {**past.refused, **now.refused, **now.later}
    return Delivery(accepted=[*past.accepted, *now.accepted], refused=refused)


def _said(words: dict[str, str]) -> str:
    return "; ".join(f"{who}: {said}" for who, said in words.items())
