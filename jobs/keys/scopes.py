"""What a key lets its holder do: scopes, and the roles that are named sets of them."""

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Scope(StrEnum):
    """One thing that a key may open; api/authentication.py says which address needs which."""

    JOBS_READ = "jobs:read"  #: read what there is: jobs, files, kinds, queues, rules; follow jobs
    JOBS_WRITE = "jobs:write"  #: submit, cancel, retry, delete; upload and delete files
    EVENTS_READ = "events:read"  #: read and follow events that came in
    EVENTS_CONSUME = "events:consume"  #: follow events under a name whose position is kept
    EVENTS_WRITE = "events:write"  #: publish events
    TRIGGERS_WRITE = "triggers:write"  #: make, change, test, replay and delete triggers
    WEBHOOKS_WRITE = "webhooks:write"  #: make, change and delete webhooks; deliver again
    SCHEDULES_WRITE = "schedules:write"  #: make, change, pause, run and delete schedules
    QUEUES_WRITE = "queues:write"  #: pause and resume; change limits and rates
    BULK_WRITE = "bulk:write"  #: change many jobs at once
    KEYS_MANAGE = "keys:manage"  #: list, make and delete keys that may no more than this one
    AUDIT_READ = "audit:read"  #: read who did what
    METRICS_READ = "metrics:read"  #: read /metrics
    ADMIN = "admin"  #: everything in its project


#: What people call the usual sets.
ROLES: Mapping[str, frozenset[Scope]] = {
    "reader": frozenset({Scope.JOBS_READ, Scope.EVENTS_READ}),
    "submitter": frozenset(
        {
            *(Scope.JOBS_READ, Scope.JOBS_WRITE),
            *(Scope.EVENTS_READ, Scope.EVENTS_CONSUME, Scope.EVENTS_WRITE),
        }
    ),
    "operator": frozenset(Scope) - {Scope.KEYS_MANAGE, Scope.ADMIN},
    "admin": frozenset({Scope.ADMIN}),
}


def opened_by(scopes: Iterable[str]) -> frozenset[str]:
    """Everything that a key with these scopes may do: `admin` implies all others."""
    held = frozenset(scopes)
    return frozenset(Scope) if Scope.ADMIN in held else held
