"""Long polls: a request that waits for its job, and holds no connection meanwhile."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from api.keyring import Principal, invalid_key
from api.parts import Parts
from api.revocation import Standing
from jobs.queries import get_job
from jobs.states import FINAL
from jobs.views import JobView


def is_final(job: JobView) -> bool:
    """Whether nothing more is expected of it."""
    return job.state in FINAL


async def job_when(
    parts: Parts,
    principal: Principal,
    job_id: UUID,
    is_enough: Callable[[JobView], bool],
    seconds: float,
) -> JobView:
    """The job as soon as `is_enough` of it, or as it is after `seconds` or when the process ends.

    JobNotFound, also when it is deleted meanwhile; Problem 401 when the key is.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    async with parts.hub.watch(job_id) as watch:
        key = Standing(watch.wake)
        with parts.revocation.heeded(principal, key):
            while True:
                job = await parts.database.run(get_job, principal.project_id, job_id)
                left = deadline - asyncio.get_running_loop().time()
                if is_enough(job) or left <= 0:
                    return job
                is_woken = await watch.wait(left, job.seq)
                if key.is_revoked:
                    raise invalid_key()
                if not is_woken:
                    return await parts.database.run(get_job, principal.project_id, job_id)
