"""The query string of a list of jobs."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field

from api.bodies import Moment, Text
from api.paging import HIGHEST_LIMIT, Page
from api.strict import ANY_KEY
from jobs.queries import JobFilter
from jobs.states import JobState

LABEL = "label."
MOST_IDS = HIGHEST_LIMIT
MOST = 2**31 - 1  # PostgreSQL's integer


def split(value: Any) -> Any:
    """`a,b` and `a` beside `b` are the same."""
    if isinstance(value, str):
        value = [value]
    return [part for each in value for part in each.split(",") if part]


class JobQuery(Page):
    """Which jobs, and how many of them; what is empty does not narrow the list."""

    state: Annotated[list[JobState], BeforeValidator(split)] = Field(
        default=[], description="Of these states; may be separated by commas"
    )
    kind: Text | None = Field(default=None, description="Of this kind")
    queue: Text | None = Field(default=None, description="In this queue")
    label: Text | None = Field(
        default=None,
        alias=f"{LABEL}{ANY_KEY}",
        description="With this value of the label `<key>`, as in `label.customer=17`",
    )
    created_after: Moment | None = Field(default=None, description="Younger than this")
    created_before: Moment | None = Field(default=None, description="Older than this")
    ids: Annotated[list[UUID], BeforeValidator(split)] = Field(
        default=[], max_length=MOST_IDS, description="These; may be separated by commas"
    )
    batch: UUID | None = Field(default=None, description="Of this batch")
    schedule: UUID | None = Field(default=None, description="Made by the ticks of this schedule")
    full: bool = Field(default=False, description="With args and results")

    def filter(self, labels: Mapping[str, str]) -> JobFilter:
        """The same as the domain takes it."""
        return JobFilter(
            states=self.state,
            kind=self.kind or None,
            queue=self.queue or None,
            labels=labels,
            created_after=self.created_after,
            created_before=self.created_before,
            ids=self.ids,
            schedule_id=self.schedule,
            batch_id=self.batch,
        )
