"""Kinds whose handlers write to tables of their own, and die at a statement if they are told to."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Session
from sqlmodel import Field, SQLModel

from lading import AsyncJobContext, JobContext, RetryPolicy, job
from tests.kinds_for_tests import append

QUICK = RetryPolicy(base=0.05, cap=0.2)
TABLE = (
    "CREATE SCHEMA IF NOT EXISTS shop;"
    "CREATE TABLE IF NOT EXISTS shop.payment (id uuid PRIMARY KEY, job_id uuid, line text)"
)
STEPS = 20


class Payment(SQLModel, table=True):
    """The application's own table, in a schema of its own."""

    __tablename__ = "payment"
    __table_args__ = {"schema": "shop"}

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    job_id: UUID
    line: str


class Deadly(BaseModel):
    dies_at: int = 0  #: which moment of its first attempt; 0: it lives


class Moments:
    """Counts what happens to a session's connection; at one of these moments the process dies."""

    def __init__(self, context: JobContext | AsyncJobContext, args: Deadly) -> None:
        self.seen = 0
        self._dies_at = args.dies_at if context.attempt == 1 else 0

    def watch(self, session: Session) -> None:
        """Before and after each statement and the commit."""
        for target, names in (
            (session.connection(), ("before_cursor_execute", "after_cursor_execute")),
            (session, ("before_commit", "after_commit")),
        ):
            for name in names:
                sa.event.listen(target, name, self.pass_by)

    def pass_by(self, *_: Any) -> None:
        self.seen += 1
        if self.seen == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


def first(job_id: UUID) -> sa.TextClause:
    statement = sa.text("INSERT INTO shop.payment VALUES (gen_random_uuid(), :job, 'first')")
    return statement.bindparams(job=job_id)


def last(job_id: UUID) -> sa.TextClause:
    statement = sa.text("UPDATE shop.payment SET line = line || '!' WHERE job_id = :job")
    return statement.bindparams(job=job_id)


@job("block.pays", max_attempts=2, retry=QUICK)
def pays(context: JobContext, args: Deadly) -> int:
    """Three writes and a child, then one more child. How many moments there were."""
    moments = Moments(context, args)
    with context.transaction("pay") as session:
        moments.watch(session)
        session.connection().execute(first(context.job_id))
        session.add(Payment(job_id=context.job_id, line="second"))
        session.flush()
        context.submit("test.echo", {"value": "of the block"})
        session.connection().execute(last(context.job_id))
    moments.pass_by()
    context.submit("test.echo", {"value": "of the handler"})
    moments.pass_by()
    return moments.seen


@job("block.pays_async", max_attempts=2, retry=QUICK)
async def pays_async(context: AsyncJobContext, args: Deadly) -> int:
    moments = Moments(context, args)
    async with context.transaction("pay") as session:
        await session.run_sync(moments.watch)
        await (await session.connection()).execute(first(context.job_id))
        session.add(Payment(job_id=context.job_id, line="second"))
        await session.flush()
        await context.submit("test.echo", {"value": "of the block"})
        await (await session.connection()).execute(last(context.job_id))
    moments.pass_by()
    await context.submit("test.echo", {"value": "of the handler"})
    moments.pass_by()
    return moments.seen


class Walk(BaseModel):
    path: Path
    dies_after: list[int]  #: steps, the n-th on the n-th attempt


@job("block.walks", max_attempts=1)
def walks(context: JobContext, args: Walk) -> list[int]:
    """Twenty steps; the process dies after some of them."""
    results = []
    for number in range(STEPS):
        results.append(context.step(f"step {number}", partial(walk, args.path, number)))
        if args.dies_after[context.attempt - 1 : context.attempt] == [number]:
            os.kill(os.getpid(), signal.SIGKILL)
    return results


def walk(path: Path, number: int) -> int:
    append(path, str(number))
    return number


@job("block.dies_slowly", max_attempts=1)
def dies_slowly(context: JobContext, args: Deadly) -> None:
    """On its first attempt the pool hears of the death of a process that is still to be seen."""
    if context.attempt == 1:
        frame = sys._getframe()
        while "child_w" not in frame.f_locals:  # the pipe that billiard watches
            frame = frame.f_back  # type: ignore[assignment]
        os.close(frame.f_locals["child_w"])
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
