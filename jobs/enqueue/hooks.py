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
    rows: list[tuple[UUID, str, bytes | None]] = []
    for job in jobs:
        if job.webhook is None:
            continue
        if job.webhook.secret is not None:
            where = f"{job.pointer}/webhook/secret"
            raise InvalidSubmission(Flaw(where, "only the API takes secrets"))
        rows.append((job.id, job.webhook.url, job.webhook.sealed))
    if rows:
        ids, urls, sealed = map(list, zip(*rows, strict=True))
        binds = {"project": project_id, "ids": ids, "urls": urls, "sealed": sealed}
        connection.execute(_ATTACH, binds)


_ATTACH = sa.text("""
INSERT INTO job_webhook (job_id, project_id, url, sealed)
SELECT job_id, :project, url, sealed
FROM unnest(CAST(:ids AS uuid[]), CAST(:urls AS text[]), CAST(:sealed AS bytea[]))
     AS row (job_id, url, sealed)
""")
