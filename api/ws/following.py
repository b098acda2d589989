"""Subscriptions: each is a task that has a place in a job's history, or in the feed of all jobs."""

import asyncio
import json
from typing import Any
from uuid import UUID

from api.cursors import list_name, write_cursor
from api.documents import job_document
from api.errors import body_flaw, problem_of
from api.hub import DATABASE_PAUSE
from api.problems import Problem
from api.tail import FeedReader
from api.ws.events import follow_events
from api.ws.frames import JOB, Filter, SubscribeEvents, SubscribeJob, SubscribeJobs
from api.ws.session import Session
from api.ws.shortcut import Shortcut
from jobs.errors import DatabaseUnavailable, JobsError
from jobs.feed import FeedEvent, FeedFilter, Position
from jobs.pages import page_jobs
from jobs.queries import JobFilter, get_job
from jobs.states import JobState
from jobs.views import JobView

IN_SNAPSHOT = 50  # jobs, the newest: as many as a page of GET /v1/jobs


async def follow(session: Session, frame: SubscribeJob | SubscribeJobs | SubscribeEvents) -> None:
    """Until the client has enough, or the job is deleted. Ended."""
    try:
        with session.parts.metrics.streaming("ws"):
            if isinstance(frame, SubscribeJob):
                await _follow_job(session, frame)
            elif isinstance(frame, SubscribeEvents):
                await follow_events(session, frame)
            else:
                await _follow_jobs(session, frame)
    except Problem as problem:
        await _give_up(session, frame.id, problem)
    except JobsError as error:
        await _give_up(session, frame.id, problem_of(error))


async def _give_up(session: Session, frame_id: str, problem: Problem) -> None:
    """The id is free again before the client knows."""
    session.subscriptions.pop(frame_id, None)
    await session.send_error(frame_id, problem)


async def _follow_job(session: Session, frame: SubscribeJob) -> None:
    parts, project_id = session.parts, session.principal.project_id
    job_id = UUID(frame.stream.removeprefix(JOB))
    after = frame.after.seq if frame.after else 0
    follower = parts.hub.follow(project_id, job_id, after, stays=True)
    try:
        async with session.turn:
            job = await parts.database.run(get_job, project_id, job_id)
            await follower.open()
            await _send_snapshot(session, frame.id, job)
        start = f'{{"type":"event","id":{json.dumps(frame.id)},"event":'
        follower.way = Shortcut(session, start)
        while not follower.is_stopped:
            await follower.wait()
            async with session.turn:
                await session.send_events(start, await follower.take())
            if follower.is_gone:
                raise Problem("job-not-found", f"job {job_id} has been deleted")
    finally:
        follower.close()


async def _send_snapshot(session: Session, frame_id: str, job: JobView) -> None:
    snapshot = job_document(job, session.parts.settings.flower_url)
    subscribed = {"type": "subscribed", "id": frame_id}
    await session.send({**subscribed, "seq": job.seq, "snapshot": snapshot})


async def _follow_jobs(session: Session, frame: SubscribeJobs) -> None:
    asked = frame.filter or Filter()
    after = None
    if frame.after is not None:
        after = Position.parse(frame.after.position)
        if after is None:
            raise body_flaw("#/after/position", "this is no position of this server")
    states = [asked.state] if isinstance(asked.state, JobState) else asked.state or []
    wanted = FeedFilter(
        session.principal.project_id, asked.kind, asked.queue, states, asked.label or {}
    )
    async with session.parts.tail.follow(wanted, after) as reader:
        async with session.turn:
            await _begin(session, frame.id, reader, wanted, resumes=after is not None)
        while not reader.is_stopped:
            await reader.wait()
            try:
                async with session.turn:
                    await session.send_feed(frame.id, await reader.take(), reader.epoch)
            except DatabaseUnavailable:
                await asyncio.sleep(DATABASE_PAUSE)


async def _begin(
    session: Session,
    frame_id: str,
    reader: FeedReader[FeedEvent],
    wanted: FeedFilter,
    *,
    resumes: bool,
) -> None:
    """The client knows from where it has all; what comes now may be in the snapshot already."""
    snapshot = None
    if reader.is_reset or not resumes:
        snapshot = await _snapshot(session, wanted)
    position = Position(reader.epoch, reader.place).text()
    subscribed = {"type": "subscribed", "id": frame_id, "position": position}
    await session.send({**subscribed, "snapshot": None if resumes else snapshot})
    if reader.is_reset:
        reset = {"type": "reset", "id": frame_id, "reason": "position-unknown"}
        await session.send({**reset, "snapshot": snapshot})


async def _snapshot(session: Session, wanted: FeedFilter) -> dict[str, Any]:
    """The first page of GET /v1/jobs with the same filter."""
    parts = session.parts
    listed = JobFilter(
        states=[*wanted.states], kind=wanted.kind, queue=wanted.queue, labels=wanted.labels
    )
    page = await parts.database.run(page_jobs, wanted.project_id, listed, limit=IN_SNAPSHOT)
    query = {
        "kind": wanted.kind,
        "queue": wanted.queue,
        "state": ",".join(wanted.states) or None,
        **{f"label.{name}": value for name, value in wanted.labels.items()},
    }
    narrowing = [(name, value) for name, value in query.items() if value is not None]
    filters = list_name("/v1/jobs", narrowing)
    flower_url = parts.settings.flower_url
    return {
        "items": [job_document(job, flower_url, full=False) for job in page.jobs],
        "next_cursor": write_cursor(page.last_id, filters) if page.last_id else None,
    }
