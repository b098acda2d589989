"""What users of Lading install: here kinds of jobs are written. Authoring needs Pydantic only."""

from lading.authoring import Kind, job
from lading.context import AsyncJobContext, JobContext, StoredFile
from lading.outcomes import Cancel, Fail, JobCancelled, JobTimeout, Retry
from lading.retry import RetryPolicy

__all__ = [
    "AsyncJobContext",
    "Cancel",
    "Fail",
    "JobCancelled",
    "JobContext",
    "JobTimeout",
    "Kind",
    "Retry",
    "RetryPolicy",
    "StoredFile",
    "job",
]
