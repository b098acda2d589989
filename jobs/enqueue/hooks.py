"""Who is told how a job has ended: stored with the job, with its secret sealed."""

from collections.abc import Iterable
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection

from jobs.errors import Flaw, InvalidSubmission
from jobs.submissions import NewJob


def attach(connection: Connection, project_id: str, jobs: Iterable[NewJob]) -> None:
    """Those of the jobs that name a webhook have it. InvalidSubmission: its secret is not sealed.

    Only the API seals secrets: whoever submits within a worker names an address alone.
    """
    rows: list[tuple[UUID, str, bytes | None, UUID | None]] = []
    for job in jobs:
        hook = job.webhook
        if hook is None:
            continue
        if hook.secret is not None:
            where = f"{job.pointer}/webhook/secret"
            raise InvalidSubmission(Flaw(where, "only the API takes secrets"))
        rows.append((job.id, hook.url, hook.sealed, hook.sealed_for))
    if rows:
        names = ("ids", "urls", "sealed", "sealed_for")
        columns = zip(names, map(list, zip(*rows, strict=True)), strict=True)
        connection.execute(_ATTACH, {"project": project_id, **dict(columns)})


_ATTACH = sa.text("""
INSERT INTO job_webhook (job_id, project_id, url, sealed, sealed_for)
SELECT job_id, :project, url, sealed, sealed_for
FROM unnest(CAST(:ids AS uuid[]), CAST(:urls AS text[]), CAST(:sealed AS bytea[]),
            CAST(:sealed_for AS uuid[])) AS row (job_id, url, sealed, sealed_for)
""")
