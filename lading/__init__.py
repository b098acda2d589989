"""What users of Lading install: here kinds of jobs are written, and jobs are submitted.

Authoring needs Pydantic only. The client's names are there as well, and loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lading.authoring import Kind, job
from lading.context import AsyncJobContext, JobContext, StoredFile
from lading.outbox import enqueue, publish
from lading.outcomes import Cancel, Fail, JobCancelled, JobTimeout, Retry
from lading.retry import RetryPolicy
from lading.schedules import Schedule
from lading.triggers import on

if TYPE_CHECKING:
    from lading.client import (
        AsyncClient,
        Client,
        DamagedFile,
        Event,
        File,
        InvalidTransition,
        Job,
        JobFailed,
        LadingError,
        NewJob,
        NotConfigured,
        NotFound,
        ProblemError,
        PublishedEvent,
        StillRunning,
        Unauthorized,
        Unreachable,
        ValidationFailed,
    )

__all__ = [
    "AsyncClient",
    "AsyncJobContext",
    "Cancel",
    "Client",
    "DamagedFile",
    "Event",
    "Fail",
    "File",
    "InvalidTransition",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobFailed",
    "JobTimeout",
    "Kind",
    "LadingError",
    "NewJob",
    "NotConfigured",
    "NotFound",
    "ProblemError",
    "PublishedEvent",
    "Retry",
    "RetryPolicy",
    "Schedule",
    "StillRunning",
    "StoredFile",
    "Unauthorized",
    "Unreachable",
    "ValidationFailed",
    "enqueue",
    "job",
    "on",
    "publish",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'lading' has no attribute {name!r}")
    value = getattr(importlib.import_module("lading.client"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
