"""Blocks that are skipped: truly, where the caller can be traced, else at their first use."""

import asyncio
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import Any

import pytest

from lading.skipping import Closed, Skipped, Skipping


class Skip:
    """A block that is always skipped."""

    def __init__(self) -> None:
        self._skipping = Skipping()

    def __enter__(self) -> Any:
        return self._skipping.begin(sys._getframe(1))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> bool:
        return self._skipping.end(error)


class AwaitedSkip:
    """The same, awaited, with something to wait for at its entry."""

    def __init__(self) -> None:
        self._skipping = Skipping()

    async def __aenter__(self) -> Any:
        await asyncio.sleep(0)
        return self._skipping.begin(sys._getframe(1))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> bool:
        return self._skipping.end(error)


class Holder:
    session: Any = None


def plain(ran: list[str]) -> str:
    with Skip() as session:
        ran.append("block")
        session.use()
    return "after"


def without_a_name(ran: list[str]) -> str:
    with Skip():
        ran.append("block")
    return "after"


def on_one_line(ran: list[str]) -> str:
    with Skip() as session:
        ran.append(session)
    return "after"  # fmt: skip


def into_an_attribute(ran: list[str]) -> str:
    holder = Holder()
    with Skip() as holder.session:
        ran.append("block")
    return "after" if holder.session is None else "bound"


def as_one_of_several(ran: list[str]) -> str:
    with nullcontext(), Skip() as _, open("/nowhere/at/all") as _file:  # noqa: PTH123
        ran.append("block")
    return "after"


def in_another_block(ran: list[str]) -> str:
    with Skip():
        with Skip():
            ran.append("inner")
        ran.append("outer")
    return "after"


def around_another_block(ran: list[str]) -> str:
    with nullcontext():
        with Skip():
            ran.append("block")
        with Skip():
            ran.append("block")
    return "after"


def in_a_loop(ran: list[str]) -> str:
    for _ in range(3):
        with Skip():
            ran.append("block")
            continue
    return "after"


def that_returns(ran: list[str]) -> str:
    with Skip():
        return "inside"
    return "after"


def in_a_try(ran: list[str]) -> str:
    try:
        with Skip():
            ran.append("block")
    except BaseException as error:  # noqa: BLE001 - none may come
        return repr(error)
    else:
        return "after"
    finally:
        ran[:] = [*ran]


def of_an_exit_stack(ran: list[str]) -> str:
    with ExitStack() as stack:
        stack.enter_context(Skip()).use()
        ran.append("block")
    return "after"


@contextmanager
def wrapped() -> Iterator[Any]:
    with Skip() as session:
        yield session


def of_a_generator(ran: list[str]) -> str:
    with wrapped() as session:
        session.use()
        ran.append("block")
    return "after"


def compiled(ran: list[str]) -> str:
    """Entered by no `with` of Python's own."""
    block = Skip()
    enter, leave = block.__enter__, block.__exit__
    try:
        enter().use()
        ran.append("block")
    except BaseException as error:  # noqa: BLE001 - as `with` does
        return "after" if leave(type(error), error, error.__traceback__) else "not swallowed"
    return "not raised"


async def awaited(ran: list[str]) -> str:
    async with AwaitedSkip() as session:
        ran.append("block")
        session.use()
    return "after"


async def awaited_on_one_line(ran: list[str]) -> str:
    async with AwaitedSkip():
        ran.append("block")
    return "after"  # fmt: skip


async def awaited_with_awaits(ran: list[str]) -> str:
    async with AwaitedSkip():
        await asyncio.sleep(0)
        ran.append("block")
    await asyncio.sleep(0)
    return "after"


SYNC = [
    plain,
    without_a_name,
    on_one_line,
    into_an_attribute,
    as_one_of_several,
    in_another_block,
    around_another_block,
    in_a_loop,
    that_returns,
    in_a_try,
    of_an_exit_stack,
    of_a_generator,
    compiled,
]
ASYNC = [awaited, awaited_on_one_line, awaited_with_awaits]


class Watcher:
    """A debugger, say: traces everything, and counts what it has seen of a function."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:
        self.seen.append(f"{frame.f_code.co_name} {event}")
        return self


@pytest.fixture(params=["untraced", "traced"])
def watcher(request: pytest.FixtureRequest) -> Generator[Watcher | None]:
    before, watcher = sys.gettrace(), Watcher()
    sys.settrace(watcher if request.param == "traced" else None)
    yield watcher if request.param == "traced" else None
    sys.settrace(before)


@pytest.mark.parametrize("function", SYNC, ids=lambda each: each.__name__)
def test_a_block_is_skipped(watcher: Watcher | None, function: Callable[[list[str]], str]) -> None:
    ran: list[str] = []
    for _ in range(3):  # the interpreter rewrites what it has run before
        assert function(ran) == "after"
        assert sys.gettrace() is watcher
    assert ran == []
    if watcher is not None:
        assert f"{function.__name__} return" in watcher.seen


@pytest.mark.parametrize("function", ASYNC, ids=lambda each: each.__name__)
def test_an_awaited_block_is_skipped(watcher: Watcher | None, function: Any) -> None:
    ran: list[str] = []

    async def several() -> list[Any]:
        return await asyncio.gather(*(function(ran) for _ in range(5)))

    assert asyncio.run(several()) == ["after"] * 5
    assert sys.gettrace() is watcher
    assert ran == []


def test_what_interrupts_the_entry_passes() -> None:
    class Interrupted(Skip):
        def __enter__(self) -> Any:
            self._skipping.begin(sys._getframe(1))
            raise KeyboardInterrupt

    before, after = sys.gettrace(), []
    with pytest.raises(KeyboardInterrupt), Interrupted():
        after.append("block")
    assert after == []
    assert sys.gettrace() is before


def test_what_a_block_raises_otherwise_passes() -> None:
    skipping = Skipping()
    assert not skipping.end(None)
    assert not skipping.end(RuntimeError())


@pytest.mark.parametrize(
    "use",
    [
        lambda closed: closed.add(1),
        lambda closed: setattr(closed, "info", 1),
        lambda closed: 1 in closed,
        lambda closed: [*closed],
    ],
    ids=["get", "set", "in", "iterate"],
)
def test_any_use_of_a_closed_one_ends_its_block(use: Callable[[Closed], object]) -> None:
    skipping = Skipping()
    closed = skipping.begin(sys._getframe())
    with pytest.raises(Skipped) as caught:
        use(closed)
    assert skipping.end(caught.value)
