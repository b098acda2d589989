"""What is begun at once goes on where it waits, and hears of cancels there."""

import asyncio

import pytest

from api.eager import begin

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_what_needs_no_waiting_is_done_at_once() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    assert begin(work()) is None
    assert done == [1]


async def test_what_waits_goes_on_as_often_as_it_has_to() -> None:
    first, second, done = asyncio.Event(), asyncio.Event(), list[str]()

    async def work() -> None:
        for event in (first, second):
            await event.wait()
            done.append("waited")

    rest = begin(work())
    assert rest is not None
    finishing = asyncio.ensure_future(rest)
    first.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (done, finishing.done()) == (["waited"], False)
    second.set()
    await finishing
    assert done == ["waited", "waited"]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
async def test_a_deadline_reaches_what_waits(seconds: float) -> None:
    heard: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.append("ended")

    rest = begin(work())
    assert rest is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await rest
    assert heard == ["ended"]


async def test_an_error_comes_from_where_it_happens() -> None:
    async def fail(event: asyncio.Event | None) -> None:
        if event:
            await event.wait()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        begin(fail(None))
    event = asyncio.Event()
    rest = begin(fail(event))
    assert rest is not None
    event.set()
    with pytest.raises(ValueError, match="broken"):
        await rest
