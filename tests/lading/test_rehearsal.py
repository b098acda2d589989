"""Transactions under `lading.testing`: no server, and the rules of the real ones."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import Engine, StaticPool
from sqlmodel import Field, SQLModel, select

from lading import AsyncJobContext, JobCancelled, JobContext, job
from lading.authoring import find_kind
from lading.testing import run

ROOT = Path(__file__).parents[2]


class Row(SQLModel, table=True):
    """A table of the application's."""

    __tablename__ = "rehearsed"

    id: int | None = Field(default=None, primary_key=True)
    line: str


class Order(BaseModel):
    fails: bool = False
    verb: str | None = None


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    SQLModel.metadata.tables["rehearsed"].create(engine)
    yield engine
    engine.dispose()


def rows(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [*connection.scalars(sa.text("SELECT line FROM rehearsed"))]


@job("rehearsal.order")
def order(context: JobContext, args: Order) -> str:
    with context.transaction("order") as session:
        session.add(Row(line="one"))
        context.submit("test.echo", {})
        if args.verb is not None:
            getattr(session, args.verb)()
        if args.fails:
            raise RuntimeError("no")
    return "ordered"


@job("rehearsal.order_async")
async def order_async(context: AsyncJobContext, args: Order) -> str:
    async with context.transaction("order") as session:
        session.add(Row(line="one"))
        await context.submit("test.echo", {})
        await session.flush()
        assert (await session.exec(select(Row.line))).all() == ["one"]
        assert (await session.scalars(sa.text("SELECT line FROM rehearsed"))).all() == ["one"]
        if args.verb is not None:
            await getattr(session, args.verb)()
        if args.fails:
            raise RuntimeError("no")
    return "ordered"


both = pytest.mark.parametrize("handler", [order, order_async])


@both
def test_a_transaction_is_committed_and_recorded(engine: Engine, handler: Any) -> None:
    done = run(handler, Order(), engine=engine)
    assert (done.result, done.steps, len(done.submitted)) == ("ordered", {"order": None}, 1)
    assert rows(engine) == ["one"]


@both
def test_one_that_raises_leaves_nothing(engine: Engine, handler: Any) -> None:
    done = run(handler, Order(fails=True), engine=engine)
    assert (done.outcome, done.steps, done.submitted) == ("retried", {}, [])
    assert rows(engine) == []


@both
def test_one_of_an_earlier_attempt_is_skipped(engine: Engine, handler: Any) -> None:
    done = run(handler, Order(fails=True), engine=engine, attempt=2, steps={"order": None})
    assert (done.result, done.submitted) == ("ordered", [])
    assert rows(engine) == []


@both
@pytest.mark.parametrize("verb", ["commit", "rollback", "close"])
def test_one_may_not_end_itself(engine: Engine, handler: Any, verb: str) -> None:
    done = run(handler, Order(verb=verb), engine=engine)
    assert isinstance(done.error, RuntimeError)
    assert str(done.error).startswith(f"{verb}() inside context.transaction()")
    assert rows(engine) == []


def test_without_an_engine_there_is_a_database_in_memory() -> None:
    @job("rehearsal.alone")
    def alone(context: JobContext, args: Order) -> list[int]:
        found: list[int] = []
        with context.transaction("make") as session:
            session.execute(sa.text("CREATE TABLE one AS SELECT 1 AS n"))
        with context.transaction("read") as session:
            found += session.scalars(sa.text("SELECT n FROM one"))
        return found

    assert run(alone, Order()).result == [1]


def test_a_name_is_used_once() -> None:
    @job("rehearsal.twice")
    def twice(context: JobContext, args: Order) -> None:
        for _ in range(2):
            with context.transaction("same"):
                pass

    assert isinstance(run(twice, Order()).error, ValueError)


def test_the_how_to_does_what_it_says() -> None:
    page = (ROOT / "docs/how-to/survive-crashes.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    exec(compile(code, "survive-crashes.md", "exec"), {"__name__": "survive_crashes"})


def test_the_handlers_of_the_pages_do_what_these_say() -> None:
    names: dict[str, Any] = {}
    for name in ("cancel", "limit-memory"):
        page = (ROOT / f"docs/how-to/{name}.md").read_text()
        for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(compile(code, name, "exec"), names)
    assert run(names["build"], {"pages": ["a", "b"]}).result == ["A", "B"]
    assert isinstance(run(names["build"], {"pages": ["a"]}, cancelled=True).error, JobCancelled)
    assert run(names["resize"], {"width": 10}).result == 300
    kind = find_kind(names["resize"])
    assert kind is not None
    assert kind.memory_limit == 512 * 2**20


def test_authoring_loads_no_database_library() -> None:
    script = (
        "import sys, lading, lading.testing, lading.context, lading.blocks;"
        "print({'sqlalchemy', 'sqlmodel', 'greenlet'} & set(sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout == "set()\n"
