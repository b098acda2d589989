"""The statements that mark what is rung next, in the order that docs/how-to/priorities.md tells.

Written so that one index fits each part, whatever PostgreSQL believes of a backlog that came since
the last ANALYZE: rows of columns are compared, and wholly ordered, as in the one index alone; under
their locks the candidates are found by key, for a state's text fits no partial index, and an array
is believed to be short, where a join might be made by reading everything.

What is read is bounded by the room in the window and the groups (project, kind, priority) that wait
there, never by the backlog.
"""

import sqlalchemy as sa

from jobs.admission import (
    GATES,
    IS_LIMITED,
    IS_STARTABLE,
    IS_UNPAUSED,
    KEYED,
    LIVE,
    PLAIN,
    UNEXPIRED,
    groups,
)
from jobs.direct import Direct

STEP = 60  # seconds in the queue that make up for one priority
MOST_BARRED = 50  # keys that may not start anything are passed over in a look, beside …
MOST_VISITS = 1000  # … twice the room, and so many at most; the next look goes on behind them
HAS_LOCKS = "lading.has_locks"  # a transaction's, "true" for who may fill a queue's window
AGED_EVERY = 5  # starts of a queue, of which one goes to the job that has aged most
_RUNG = "state = 'queued' AND rung_at IS NOT NULL AND queue = :queue"
_HANGING = f"""hanging AS MATERIALIZED (
    SELECT priority, count(*) AS count FROM job WHERE {_RUNG} GROUP BY priority
)"""  # noqa: S608 - no value is part of it, here and below
_LEFT = "greatest(0, :window - (SELECT coalesce(sum(count), 0) FROM hanging))::integer"
_GROUP = "(:queue, wanted.project_id, wanted.kind, wanted.priority)"
_IN_GROUP = f"""(queue, project_id, kind, priority) >= {_GROUP}
          AND (queue, project_id, kind, priority) <= {_GROUP}"""
_PLAIN = f"""
    SELECT id, project_id, kind, priority, queued_at FROM job
    WHERE {PLAIN} AND {_IN_GROUP} AND {UNEXPIRED}
    ORDER BY queue, project_id, kind, priority, queued_at, id
    LIMIT (SELECT count FROM room)
"""  # noqa: S608
# `ordered` has the columns id, priority, queued_at and `place`, its order by priority and turns.
_CHOOSE = f"""share AS MATERIALIZED (
    SELECT count, (:offset + count) / {AGED_EVERY} - :offset / {AGED_EVERY} AS aged FROM room
),
aged AS (
    SELECT *, row_number() OVER (
        ORDER BY queued_at - priority * interval '{STEP} s', queued_at, id
    ) <= (SELECT aged FROM share) AS has_aged
    FROM ordered
),
chosen AS MATERIALIZED (
    SELECT *, has_aged AND place > (SELECT count FROM share) AS is_raised
    FROM (SELECT *, row_number() OVER (PARTITION BY has_aged ORDER BY place) AS number FROM aged)
         AS numbered
    WHERE has_aged OR number <= (SELECT count - aged FROM share)
),
picked AS (
    SELECT id FROM job
    WHERE id = ANY (ARRAY (SELECT id FROM chosen))
      AND CAST(state AS text) = 'queued' AND rung_at IS NULL
    FOR UPDATE SKIP LOCKED
),
marked AS (
    UPDATE job SET rung_at = clock_timestamp() WHERE id = ANY (ARRAY (SELECT id FROM picked))
    RETURNING job.id, attempt + 1 AS attempt, project_id, kind, priority, concurrency_key
),
loudest AS MATERIALIZED (
    SELECT max(priority) AS priority FROM (
        SELECT priority FROM ordered UNION ALL SELECT priority FROM hanging
        UNION ALL SELECT priority FROM job WHERE state = 'running' AND queue = :queue
    ) AS around
),
oldest AS MATERIALIZED (
    SELECT priority, min(queued_at) AS queued_at FROM (
        SELECT priority, queued_at FROM ordered
        UNION ALL SELECT priority, queued_at FROM job WHERE {_RUNG}
    ) AS waiting GROUP BY priority
)"""  # noqa: S608

# What has aged is heard earlier, too: else it could wait in the broker behind all that is urgent.
# Where nothing is more urgent, all bells of a priority are equally loud; of one that is passed over
# all are as loud as its oldest makes it. So they are heard in the order in which they were picked,
# and a crowd that has aged is not heard before a key whose turn it is.
_LOUDNESS = f"""CASE
           WHEN is_raised THEN 9
           WHEN marked.priority < (SELECT priority FROM loudest) THEN
               least(9, marked.priority + floor(extract(epoch FROM statement_timestamp() - (
                   SELECT queued_at FROM oldest WHERE oldest.priority = marked.priority
               )) / {STEP})::integer)
           ELSE marked.priority
       END"""  # noqa: S608

_IS_BARRED = f"{IS_LIMITED} OR current_setting('{HAS_LOCKS}', true) IS DISTINCT FROM 'true'"


def _pick_plain(wanted: str, is_barred: str) -> str:
    """`wanted`: CTEs, the last of which has the groups that may be started."""
    return f"""
{wanted},
{_HANGING},
room AS MATERIALIZED (SELECT CASE WHEN {is_barred} THEN 0 ELSE {_LEFT} END AS count),
candidate AS (SELECT next.* FROM wanted, LATERAL ({_PLAIN}) AS next),
ordered AS (
    SELECT *, row_number() OVER (ORDER BY priority DESC, queued_at, id) AS place FROM candidate
),
{_CHOOSE}
SELECT marked.id, marked.attempt, marked.kind, {_LOUDNESS} AS loudness, false AS is_limited
FROM marked JOIN chosen USING (id) ORDER BY place
"""  # noqa: S608


_BELL = {
    "id": sa.Uuid,
    "attempt": sa.Integer,
    "kind": sa.Text,
    "loudness": sa.Integer,
    "is_limited": sa.Boolean,
}
_WINDOW = (
    sa.bindparam("queue", type_=sa.Text),
    sa.bindparam("window", type_=sa.Integer),
    sa.bindparam("offset", type_=sa.Integer),
)
_PICK_PLAIN = sa.text(
    _pick_plain(
        """WITH wanted AS (
    SELECT * FROM unnest(CAST(:projects AS text[]), CAST(:kinds AS text[]),
                         CAST(:priorities AS smallint[])) AS row (project_id, kind, priority)
)""",
        _IS_BARRED,
    )
)
#: Where nothing is limited and no job has a key. Marks nothing if that has changed meanwhile, or
#: where the transaction has not got its locks.
PICK_PLAIN = Direct(
    "lading_pick",
    _PICK_PLAIN.bindparams(
        *_WINDOW,
        sa.bindparam("projects", type_=sa.ARRAY(sa.Text)),
        sa.bindparam("kinds", type_=sa.ARRAY(sa.Text)),
        sa.bindparam("priorities", type_=sa.ARRAY(sa.Integer)),
    ).columns(**_BELL),
)
_PICK_AT_ONCE = sa.text(
    _pick_plain(
        f"""WITH RECURSIVE {groups("plain", f"{PLAIN} AND queue = :queue")},
{LIVE},
wanted AS (SELECT * FROM plain AS waiting WHERE {IS_STARTABLE})""",  # noqa: S608
        f"{_IS_BARRED} OR EXISTS (SELECT FROM job WHERE {KEYED} AND queue = :queue)",
    )
)
#: The same without having looked at the queue. Marks nothing where a job there has a key.
PICK_AT_ONCE = Direct(
    "lading_pick_at_once",
    _PICK_AT_ONCE.bindparams(*_WINDOW, sa.bindparam("lease", type_=sa.Interval)).columns(**_BELL),
)

_PICK_LONE = sa.text(f"""
WITH next AS MATERIALIZED (
    SELECT id, project_id, kind, queued_at FROM job WHERE {PLAIN} AND queue = :queue
    ORDER BY queue, project_id, kind, priority, queued_at, id LIMIT 2
),
picked AS MATERIALIZED (
    SELECT id FROM job
    WHERE id = (
        SELECT id FROM next AS waiting
        WHERE (SELECT count(*) FROM next) = 1
          AND queued_at > statement_timestamp() - interval '{STEP} s'
          AND NOT EXISTS (SELECT FROM job WHERE {_RUNG})
          AND NOT EXISTS (SELECT FROM job WHERE {KEYED} AND queue = :queue)
          AND NOT ({_IS_BARRED})
          AND EXISTS (
              SELECT FROM worker
              WHERE worker.seen_at > clock_timestamp() - CAST(:lease AS interval)
                AND :queue = ANY (worker.queues) AND waiting.kind = ANY (worker.kinds)
          )
          AND {IS_UNPAUSED.replace("waiting.queue", ":queue")}
    ) AND CAST(state AS text) = 'queued' AND rung_at IS NULL AND {UNEXPIRED}
    FOR UPDATE SKIP LOCKED
)
UPDATE job SET rung_at = clock_timestamp() WHERE id = (SELECT id FROM picked)
RETURNING id, attempt + 1 AS attempt, kind, CAST(priority AS integer) AS loudness,
          false AS is_limited
""")  # noqa: S608
#: The same where a single job waits and no bell hangs, and that not for long: then it is the next
#: by every rule, and as loud as it is urgent. Marks nothing elsewhere.
PICK_LONE = Direct(
    "lading_pick_lone",
    _PICK_LONE.bindparams(
        sa.bindparam("queue", type_=sa.Text), sa.bindparam("lease", type_=sa.Interval)
    ).columns(**_BELL),
)

_KEY = "(queue, project_id, kind, priority, concurrency_key)"
# A loose index scan over the keys of a group: first those behind the one whose turn it was, then,
# in the second lap, the others.
_VISIT = f"""
    WITH RECURSIVE visit AS (
        (SELECT concurrency_key, 1 AS number FROM job
         WHERE {KEYED} AND (queue, project_id, kind, priority) <= {_GROUP}
           AND {_KEY} > (:queue, wanted.project_id, wanted.kind, wanted.priority,
                         CASE lap WHEN 0 THEN wanted.after ELSE '' END)
         ORDER BY queue, project_id, kind, priority, concurrency_key LIMIT 1)
        UNION ALL
        SELECT next.concurrency_key, number + 1 FROM visit, LATERAL (
            SELECT concurrency_key FROM job
            WHERE {KEYED} AND (queue, project_id, kind, priority) <= {_GROUP}
              AND {_KEY} > (:queue, wanted.project_id, wanted.kind, wanted.priority,
                            visit.concurrency_key)
            ORDER BY queue, project_id, kind, priority, concurrency_key LIMIT 1
        ) AS next
        WHERE number < (SELECT visits FROM room)
          AND (lap = 0 OR visit.concurrency_key < wanted.after)
    )
    SELECT concurrency_key FROM visit WHERE lap = 0 OR concurrency_key <= wanted.after
"""  # noqa: S608

#: Where keys take turns, or something is limited.
PICK_COUNTED = sa.text(f"""
WITH {_HANGING},
room AS MATERIALIZED (
    SELECT count, least(2 * count + {MOST_BARRED}, {MOST_VISITS}) AS visits
    FROM (SELECT {_LEFT} AS count) AS left_over
),
grouped AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:projects AS text[]), CAST(:kinds AS text[]),
                         CAST(:priorities AS smallint[]), CAST(:keyed AS boolean[]),
                         CAST(:after AS text[]))
             AS row (project_id, kind, priority, is_keyed, after)
    WHERE (SELECT count FROM room) > 0
),
visited AS MATERIALIZED (
    SELECT wanted.project_id, wanted.kind, wanted.priority, visit.concurrency_key,
           row_number() OVER (PARTITION BY wanted.project_id, wanted.kind, wanted.priority
                              ORDER BY lap, visit.concurrency_key) AS visit
    FROM grouped AS wanted, (VALUES (0), (1)) AS laps (lap), LATERAL ({_VISIT}) AS visit
    WHERE is_keyed AND (lap = 0 OR wanted.after <> '')
),
wanted AS (
    SELECT DISTINCT project_id, 'key' AS scope, concurrency_key AS name FROM visited
    UNION ALL SELECT DISTINCT project_id, 'kind', kind FROM grouped
    UNION ALL SELECT DISTINCT project_id, 'queue', CAST(:queue AS text) FROM grouped
),
{GATES},
shared AS (
    SELECT visited.*, coalesce(gates.free, room.count) AS free,
           gates.free IS NOT NULL AS is_limited,
           ceil(room.count / greatest(1.0, count(*) FILTER (
               WHERE coalesce(gates.free, 1) > 0
           ) OVER (PARTITION BY visited.project_id, visited.kind, visited.priority)))::integer
               AS share
    FROM room, visited
    LEFT JOIN gates ON gates.project_id = visited.project_id AND scope = 'key'
                    AND gates.name = visited.concurrency_key
),
candidate AS (
    SELECT next.*, CAST(NULL AS text) AS concurrency_key, CAST(NULL AS integer) AS free, 0 AS visit,
           false AS is_limited
    FROM grouped AS wanted, LATERAL ({_PLAIN}) AS next WHERE NOT is_keyed
    UNION ALL
    SELECT next.*, wanted.concurrency_key, free, visit, is_limited
    FROM shared AS wanted, LATERAL (
        SELECT id, project_id, kind, priority, queued_at FROM job
        WHERE {KEYED} AND {UNEXPIRED}
          AND {_KEY} >= (:queue, wanted.project_id, wanted.kind, wanted.priority,
                         wanted.concurrency_key)
          AND {_KEY} <= (:queue, wanted.project_id, wanted.kind, wanted.priority,
                         wanted.concurrency_key)
        ORDER BY queue, project_id, kind, priority, concurrency_key, queued_at, id
        LIMIT least(wanted.free, wanted.share)
    ) AS next
),
turned AS (
    SELECT *, CASE WHEN concurrency_key IS NULL THEN 1 ELSE row_number() OVER (
        PARTITION BY project_id, concurrency_key ORDER BY priority DESC, queued_at, id) END AS turn
    FROM candidate
),
in_turn AS (
    SELECT *, row_number() OVER (PARTITION BY priority, concurrency_key IS NULL
                                 ORDER BY turn, visit, queued_at, id) AS number
    FROM turned WHERE free IS NULL OR turn <= free
),
placed AS (
    SELECT *, row_number() OVER (
        ORDER BY priority DESC, number, (concurrency_key IS NULL) = (:offset % 2 = 0) DESC, id
    ) AS place
    FROM in_turn
),
of_kind AS (
    SELECT placed.*, gates.free AS kind_free,
           row_number() OVER (PARTITION BY placed.project_id, kind ORDER BY place) AS kind_number
    FROM placed LEFT JOIN gates ON gates.project_id = placed.project_id AND scope = 'kind'
                                AND gates.name = kind
),
of_queue AS (
    SELECT of_kind.*, gates.free AS queue_free,
           row_number() OVER (PARTITION BY of_kind.project_id ORDER BY place) AS queue_number
    FROM of_kind LEFT JOIN gates ON gates.project_id = of_kind.project_id AND scope = 'queue'
    WHERE kind_free IS NULL OR kind_number <= kind_free
),
ordered AS (
    SELECT id, project_id, kind, priority, queued_at, concurrency_key, visit,
           is_limited OR kind_free IS NOT NULL OR queue_free IS NOT NULL AS is_limited,
           row_number() OVER (ORDER BY place) AS place
    FROM of_queue WHERE queue_free IS NULL OR queue_number <= queue_free
),
{_CHOOSE},
spent AS (
    UPDATE gate
    SET rate_spent_until = greatest(rate_spent_until, statement_timestamp())
                           + taken.count * rate_seconds / rate_limit * interval '1 s'
    FROM (
        SELECT project_id, 'key' AS scope, concurrency_key AS name, count(*) FROM marked
        WHERE concurrency_key IS NOT NULL GROUP BY project_id, concurrency_key
        UNION ALL SELECT project_id, 'kind', kind, count(*) FROM marked GROUP BY project_id, kind
        UNION ALL
        SELECT project_id, 'queue', CAST(:queue AS text), count(*) FROM marked GROUP BY project_id
    ) AS taken
    WHERE gate.project_id = taken.project_id AND gate.scope = taken.scope
      AND gate.name = taken.name AND rate_limit IS NOT NULL
)
SELECT marked.id, marked.attempt, marked.project_id, marked.kind, marked.priority,
       {_LOUDNESS} AS loudness, CAST(NULL AS text) AS turn_of, is_limited, chosen.place
FROM marked JOIN chosen USING (id)
UNION ALL
(SELECT DISTINCT ON (project_id, kind, priority)
        NULL, NULL, project_id, kind, priority, NULL, concurrency_key, NULL::boolean,
        NULL::bigint
 FROM visited LEFT JOIN chosen USING (project_id, kind, priority, concurrency_key, visit)
 ORDER BY project_id, kind, priority, (chosen.id IS NOT NULL) DESC, visit DESC)
ORDER BY place
""")  # noqa: S608
