"""The stream `events` of a socket, and what its client acknowledges of it."""

import asyncio

from api.bus.following import Asked, Followed, following
from api.errors import body_flaw, problem_of
from api.hub import DATABASE_PAUSE
from api.members import Member
from api.problems import Problem
from api.ws.frames import Acknowledge, SubscribeEvents
from api.ws.session import SUBSCRIPTIONS, Session
from jobs.errors import DatabaseUnavailable
from jobs.feed import Position
from jobs.keys.scopes import Scope

_POINTERS = {"type": "#/filter/type", "after": "#/after/position"}


async def follow_events(session: Session, frame: SubscribeEvents) -> None:
    """Until the client has enough. Problem: also when another member has taken the place. Ended."""
    if frame.consumer is not None:
        session.principal.require(Scope.EVENTS_CONSUME)
    after = frame.after.position if frame.after else None
    asked = Asked(frame.types, frame.consumer, after)
    async with following(session.parts, session.actor, asked, _flaw) as followed:
        reader, member = followed
        if member is not None:
            _keep(session, frame.id, member)
        try:
            async with session.turn:
                await _begin(session, frame, followed)
            while not reader.is_stopped:
                await reader.wait()
                try:
                    async with session.turn:
                        await session.send_published(frame.id, await reader.take(), reader.epoch)
                except DatabaseUnavailable:
                    await asyncio.sleep(DATABASE_PAUSE)
        finally:
            # Of one that has lost its place it is known why, if it acknowledges something yet.
            if session.members.get(frame.id) is member and (not member or not member.loss):
                session.members.pop(frame.id, None)
        if member is not None and member.loss is not None:
            raise problem_of(member.loss)


async def acknowledge(session: Session, frame: Acknowledge) -> None:
    """It is kept, and the client knows; Ended.

    Problem, ConsumerTaken, ConsumerMissing, PositionUnknown.
    """
    position = Position.parse(frame.position)
    if position is None:
        raise body_flaw("#/position", "this is no position of this server")
    member = session.members.get(frame.id)
    if member is None:
        raise Problem("bad-request", f"There is no subscription {frame.id!r} with a consumer.")
    kept = await member.acknowledge(position)
    await session.send({"type": "acked", "id": frame.id, "position": kept.position})


def _keep(session: Session, frame_id: str, member: Member) -> None:
    lost = [each for each, known in session.members.items() if known.loss]
    if len(lost) >= SUBSCRIPTIONS:
        del session.members[lost[0]]
    session.members[frame_id] = member


async def _begin(session: Session, frame: SubscribeEvents, followed: Followed) -> None:
    reader, _ = followed
    position = Position(reader.epoch, reader.place).text()
    subscribed = {"type": "subscribed", "id": frame.id, "position": position}
    await session.send({**subscribed, "snapshot": None})
    if reader.is_reset:
        reset = {"type": "reset", "id": frame.id, "reason": "position-unknown"}
        await session.send({**reset, "snapshot": None})


def _flaw(name: str, message: str) -> Problem:
    return body_flaw(_POINTERS[name], message)
