"""The verbs of the client that is awaited; its decisions are those of the other one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from lading import AsyncClient, InvalidTransition, NewJob, NotFound, StillRunning, Unreachable
from tests.api.serving import Api
from tests.kinds_for_tests import echo
from tests.lading.gateway import Canned, gateway
from tests.lading.handwork import Handwork


def run(api: Api, story: Callable[[AsyncClient], Awaitable[None]], url: str | None = None) -> None:
    async def told() -> None:
        async with AsyncClient(url or api.url, api.key) as client:
            await story(client)

    asyncio.run(told())


def test_jobs_are_submitted_moved_and_read(api: Api, by_hand: Handwork) -> None:
    async def story(client: AsyncClient) -> None:
        label = {"story": str(uuid4())}
        one, two = await client.submit_many([NewJob(echo, labels=label, delay=60)] * 2)
        assert (await client.run_now(one)).state == "queued"
        await asyncio.to_thread(by_hand.log_and_run, one.id, "hello")
        assert (await client.get(one)).check().is_final
        assert [event.seq for event in await client.events(one, after=2)] == [3, 4, 5]
        assert [each.outcome for each in await client.attempts(one)] == ["succeeded"]
        assert [line.message for line in await client.logs(one)] == ["hello"]
        assert (await client.cancel(two, "enough")).state == "cancelled"
        assert (await client.retry(two)).state == "queued"
        with pytest.raises(InvalidTransition):
            await client.retry(two)
        again = await client.rerun(one)
        assert [job.id async for job in client.list(labels=label)] == [again.id, two.id, one.id]
        await client.delete(one)
        with pytest.raises(NotFound):
            await client.get(one)

    run(api, story)


def test_many_jobs_are_waited_for_at_once(api: Api, by_hand: Handwork) -> None:
    async def story(client: AsyncClient) -> None:
        jobs = await asyncio.gather(*(client.submit(echo, {"value": n}) for n in range(20)))
        with pytest.raises(StillRunning):
            await client.wait(jobs[0], timeout=0.1)
        waiting = asyncio.gather(*(client.wait(job) for job in jobs))
        for job in jobs:
            await asyncio.to_thread(by_hand.run, job.id, job.args["value"])
        assert [job.result for job in await waiting] == list(range(20))
        assert (await client.submit(echo, wait=0.1)).state == "queued"

    run(api, story)


def test_files_and_the_platform_are_reached(api: Api, tmp_path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        file = await client.upload(b"bytes", name="x.bin")
        assert (await client.get_file(file.id)).sha256 == file.sha256
        assert (await client.download(file, tmp_path)).read_bytes() == b"bytes"
        assert "test.echo" in {kind.name for kind in await client.kinds()}
        assert {"default", "io"} <= {queue.name for queue in await client.queues()}
        assert [*await client.workers()] == []
        assert (await client.health()).status == "ready"

    run(api, story)


def test_what_failed_is_sent_again_and_given_up(api: Api) -> None:
    async def story(client: AsyncClient) -> None:
        between.next.extend([Canned(503, {}, b""), Canned(502, {}, b"")])
        await client.submit(echo)
        assert len({each.headers["idempotency-key"] for each in between.seen}) == 1
        assert len(between.seen) == 3
        async with AsyncClient("http://127.0.0.1:1", "key", patience=0) as lost:
            with pytest.raises(Unreachable):
                await lost.queues()

    with gateway(api.url) as between:
        run(api, story, between.url)


def test_a_follower_that_is_cancelled_leaves_nothing_open(api: Api) -> None:
    async def story(client: AsyncClient) -> None:
        job = await client.submit(echo)
        seen = asyncio.Event()

        async def follow() -> None:
            async for _ in client.follow(job):
                seen.set()

        following = asyncio.create_task(follow())
        await asyncio.wait_for(seen.wait(), 30)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        assert (await client.get(job)).state == "queued"

    run(api, story)
