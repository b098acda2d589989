"""What clients send to limit, pause and resume."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.bodies import Integer, Seconds, Text
from jobs.submissions import MOST_AT_A_TIME


def _example(body: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pausing(_Body):
    """Why nothing more should start."""

    model_config = _example({"reason": "the mail server is being moved"})

    reason: Annotated[Text, Field(max_length=1000)] | None = Field(
        default=None, description="People see it wherever jobs wait for it"
    )


class NewRate(_Body):
    """How many jobs may start in a time."""

    limit: Annotated[Integer, Field(ge=1, le=MOST_AT_A_TIME)] = Field(description="Starts …")
    period: Annotated[Seconds, Field(ge=0.001)] = Field(description="… in so many seconds")
    burst: Annotated[Integer, Field(ge=1, le=MOST_AT_A_TIME)] | None = Field(
        default=None,
        description="So many start at once after a quiet time; if not given, as many as are due in"
        " a tenth of a second, and one at least",
    )


class NewLimit(_Body):
    """How many jobs may run at a time, or start in a time."""

    model_config = _example({"concurrency": 5, "rate": {"limit": 100, "period": 60}})

    concurrency: Annotated[Integer, Field(ge=1, le=MOST_AT_A_TIME)] | None = Field(
        default=None, description="So many run at a time; any number, if not given"
    )
    rate: NewRate | None = Field(default=None, description="Any rate, if not given")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.concurrency is None and self.rate is None:
            raise ValueError("concurrency, rate or both are needed")
        return self
