"""What may go wrong with jobs, done by hand: constraints are in the way of some of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from jobs import lifecycle
from tests.jobs.living import ERROR, claim, fail, submit, succeed
from tests.jobs.making import PROJECT

HOUR = timedelta(hours=1)


class Damage(NamedTuple):
    """Statements that damage one of the `make_jobs`, and what is to be found then."""

    kind: str  #: of the job that becomes `:id`
    statements: Sequence[str]
    found: Sequence[str]


UNTIE = "ALTER TABLE job_event DROP CONSTRAINT job_event_job_id_fkey"
UNTIE_ATTEMPT = "ALTER TABLE job_attempt DROP CONSTRAINT job_attempt_job_id_fkey"
COUNT_IT = """
UPDATE intake_total SET removed = removed + 1 WHERE (bucket, process_id) IN (
    SELECT bucket, process_id FROM intake_total
    WHERE bucket = left(CAST(CAST(:id AS uuid) AS text), 8) LIMIT 1
)
"""
ADD_KEY = """
INSERT INTO idempotency_key (project_id, key, fingerprint, job_ids)
VALUES ('{}', 'a key', '', {})
"""

DAMAGES = {
    "a job is gone": Damage("ended", ["DELETE FROM job WHERE id = :id"], ["missing"]),
    "a job is counted twice": Damage(
        "queued", ["UPDATE intake_total SET accepted = accepted + 1"], ["missing"]
    ),
    "a job was not counted": Damage(
        "queued", ["UPDATE intake_total SET accepted = accepted - 1"], ["uncounted"]
    ),
    "a removal was not": Damage("ended", [COUNT_IT], ["uncounted"]),
    "a sum is wrong": Damage(
        "queued",
        ["INSERT INTO intake_total VALUES ('', '00000000-0000-0000-0000-000000000000', 2, 1)"],
        ["unsettled"],
    ),
    "nobody rescues": Damage(
        "running",
        ["UPDATE job SET lease_until = now() - interval '1 hour' WHERE id = :id"],
        ["lease_ran_out"],
    ),
    "nobody releases": Damage(
        "scheduled",
        ["UPDATE job SET run_at = now() - interval '1 hour' WHERE id = :id"],
        ["not_released"],
    ),
    "nobody releases what failed": Damage(
        "retrying",
        ["UPDATE job SET run_at = now() - interval '1 hour' WHERE id = :id"],
        ["not_released"],
    ),
    "nobody expires": Damage(
        "queued",
        ["UPDATE job SET expires_at = now() - interval '1 hour' WHERE id = :id"],
        ["not_expired"],
    ),
    "it waits for nobody": Damage(
        "queued",
        [
            "UPDATE job SET state = 'waiting', created_at = '2026-01-01' WHERE id = :id",
            """UPDATE job_event SET data = '{"state": "waiting"}' WHERE job_id = :id""",
        ],
        ["waits_for_nothing"],
    ),
    "nobody knows whom it waits for": Damage(
        "queued",
        [
            "UPDATE job SET state = 'waiting', parents_left = 2 WHERE id = :id",
            """UPDATE job_event SET data = '{"state": "waiting"}' WHERE job_id = :id""",
        ],
        ["wrong_parents"],
    ),
    "events without a job": Damage(
        "queued", [UNTIE, COUNT_IT, "DELETE FROM job WHERE id = :id"], ["no_job"]
    ),
    "an attempt without a job": Damage(
        "ended",
        [
            UNTIE_ATTEMPT,
            COUNT_IT,
            "DELETE FROM job WHERE id = :id",
        ],
        ["no_job", "no_history"],
    ),
    "no events": Damage("ended", ["DELETE FROM job_event WHERE job_id = :id"], ["no_history"]),
    "an event is gone": Damage(
        "ended",
        ["DELETE FROM job_event WHERE job_id = :id AND type = 'progress'"],
        ["gap_in_history"],
    ),
    "the last event is gone": Damage(
        "ended",
        ["DELETE FROM job_event WHERE job_id = :id AND type = 'succeeded'"],
        ["wrong_seq", "wrong_state", "attempt_never_made"],
    ),
    "the first event is gone": Damage(
        "queued",
        [
            "UPDATE job_event SET seq = 2 WHERE job_id = :id",
            "UPDATE job SET seq = 2 WHERE id = :id",
        ],
        ["gap_in_history"],
    ),
    "an event is another": Damage(
        "ended",
        ["UPDATE job_event SET type = 'created' WHERE job_id = :id AND type = 'progress'"],
        ["illegal_move", "attempt_never_made"],
    ),
    "an event of no type": Damage(
        "ended",
        ["UPDATE job_event SET type = 'dreamt' WHERE job_id = :id AND type = 'progress'"],
        ["illegal_move", "attempt_never_made"],
    ),
    "it ended twice": Damage(
        "ended",
        [
            "INSERT INTO job_event VALUES (:id, 5, 'succeeded', now(), 1, '{}')",
            "UPDATE job SET seq = 5 WHERE id = :id",
        ],
        ["illegal_move"],
    ),
    "two attempts at once": Damage(
        "ended",
        ["UPDATE job_event SET type = 'started' WHERE job_id = :id AND type = 'progress'"],
        ["illegal_move", "wrong_attempt"],
    ),
    "the version is wrong": Damage(
        "ended", ["UPDATE job SET seq = 9 WHERE id = :id"], ["wrong_seq"]
    ),
    "the state is wrong": Damage(
        "ended",
        ["UPDATE job SET state = 'cancelled', result = NULL WHERE id = :id"],
        ["wrong_state"],
    ),
    "the fence is wrong": Damage(
        "running", ["UPDATE job SET attempt = 2 WHERE id = :id"], ["wrong_attempt"]
    ),
    "an event names another attempt": Damage(
        "ended",
        ["UPDATE job_event SET attempt = 7 WHERE job_id = :id AND type = 'progress'"],
        ["wrong_attempt"],
    ),
    "a failure is forgotten": Damage(
        "failed", ["UPDATE job SET failures = 0 WHERE id = :id"], ["wrong_budgets"]
    ),
    "a crash is invented": Damage(
        "ended", ["UPDATE job SET crashes = 1 WHERE id = :id"], ["wrong_budgets"]
    ),
    "a manual retry is forgotten": Damage(
        "retried", ["UPDATE job SET failures = 1 WHERE id = :id"], ["wrong_budgets"]
    ),
    "a cancel request is invented": Damage(
        "running",
        ["UPDATE job SET cancel_requested = true WHERE id = :id"],
        ["wrong_cancel_request"],
    ),
    "a cancel request is forgotten": Damage(
        "asked",
        ["UPDATE job SET cancel_requested = false WHERE id = :id"],
        ["wrong_cancel_request"],
    ),
    "an attempt is not recorded": Damage(
        "ended", ["DELETE FROM job_attempt WHERE job_id = :id"], ["attempt_not_recorded"]
    ),
    "an attempt is recorded as another": Damage(
        "ended",
        ["UPDATE job_attempt SET outcome = 'failed' WHERE job_id = :id"],
        ["attempt_not_recorded"],
    ),
    "an attempt was never made": Damage(
        "ended",
        [
            """INSERT INTO job_attempt (job_id, attempt, worker, started_at, finished_at, outcome)
               VALUES (:id, 2, gen_random_uuid(), now(), now(), 'crashed')"""
        ],
        ["attempt_never_made"],
    ),
    "a step is gone": Damage(
        "stepped", ["DELETE FROM job_step WHERE job_id = :id"], ["wrong_steps"]
    ),
    "a step came from nowhere": Damage(
        "running",
        ["INSERT INTO job_step (job_id, name, attempt, result) VALUES (:id, 'one', 1, '1')"],
        ["wrong_steps"],
    ),
    "a key of nothing": Damage("queued", [ADD_KEY.format("default", "'{}'")], ["key_without_job"]),
    "a key of somebody else's job": Damage(
        "queued",
        [ADD_KEY.format("other", "ARRAY[CAST(:id AS uuid)]")],
        ["key_of_another_project"],
    ),
    "a key of a job that never was": Damage(
        "queued",
        [ADD_KEY.format("default", "ARRAY[gen_random_uuid()]")],
        ["key_of_unknown_jobs"],
    ),
}


def make_jobs(connection: Connection) -> dict[str, UUID]:
    """Jobs by what they have lived through."""
    kinds = ("queued", "running", "asked", "ended", "failed", "retried", "retrying", "stepped")
    jobs = dict(zip(kinds, submit(connection, len(kinds)), strict=True))
    jobs["scheduled"] = submit(connection, delay=HOUR)[0]
    for kind in ("running", "asked"):
        claim(connection, jobs[kind])
    lifecycle.cancel(connection, PROJECT, jobs["asked"], "enough")
    attempt = claim(connection, jobs["ended"])
    lifecycle.record_progress(
        connection, jobs["ended"], attempt=attempt, fraction=0.5, message=None
    )
    lifecycle.succeed(connection, jobs["ended"], attempt=attempt, result=1)
    for kind in ("failed", "retried", "retrying"):
        lifecycle.retry_later(
            connection, jobs[kind], attempt=claim(connection, jobs[kind]), error=ERROR, delay=HOUR
        )
    for kind in ("failed", "retried"):
        lifecycle.run_now(connection, PROJECT, jobs[kind])
        fail(connection, jobs[kind])
    lifecycle.retry(connection, PROJECT, jobs["retried"])
    attempt = claim(connection, jobs["stepped"])
    lifecycle.record_step(connection, jobs["stepped"], attempt=attempt, name="one", result=1)
    lifecycle.interrupt(connection, jobs["stepped"], attempt=attempt, reason="deploy")
    succeed(connection, jobs["stepped"])
    return jobs


def damage(connection: Connection, kind: str, job_id: UUID) -> None:
    """It is done to the job."""
    for statement in DAMAGES[kind].statements:
        connection.execute(text(statement), {"id": job_id} if ":id" in statement else {})
