"""What clients send about webhooks."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from api.bodies import Moment, Seconds, Text, WebhookUrl
from lading.patterns import LENGTH, WRONG, is_pattern

MOST_PATTERNS = 100
LONGEST_OVERLAP = 7 * 24 * 3600  # seconds; a secret that goes on for longer is not rotated


def _pattern(text: str) -> str:
    if not is_pattern(text):
        raise ValueError(WRONG)
    return text


Pattern = Annotated[Text, AfterValidator(_pattern), Field(min_length=1, max_length=LENGTH)]
Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=MOST_PATTERNS)]
Description = Annotated[Text, Field(max_length=1000)]
_URL = "Where events are POSTed: https, or http in a network of LADING_HTTP_ALLOW_NETWORKS"
_TYPES = "Patterns of the event types to be told of: `user.created`, `job.*`, `*`"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewWebhook(_Body):
    """An endpoint to be told of events."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://example.org/hooks", "event_types": ["job.failed"]}]
        }
    )

    url: WebhookUrl = Field(description=_URL)
    event_types: Patterns = Field(description=_TYPES)
    description: Description = Field(default="", description="What people know it by")
    enabled: StrictBool = Field(default=True, description="Whether it is told of anything")


class WebhookChange(_Body):
    """What shall be otherwise; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    url: WebhookUrl = Field(default=None, description=_URL)  # type: ignore[assignment] # unset
    event_types: Patterns = Field(default=[], description=_TYPES)
    description: Description = Field(default="", description="What people know it by")
    enabled: StrictBool = Field(
        default=True, description="Switched on, it begins afresh; what it missed is not delivered"
    )

    def changes(self) -> dict[str, Any]:
        """What was said, as the domain takes it."""
        said = {name: getattr(self, name) for name in self.model_fields_set}
        return said | ({"url": str(self.url)} if "url" in said else {})


class Rotation(_Body):
    """How long what was before goes on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap": 3600}]})

    overlap: Annotated[Seconds, Field(ge=0, le=LONGEST_OVERLAP)] = Field(
        default=24 * 3600, description="Seconds for which the secrets before it sign, too"
    )


class ReplaySince(_Body):
    """Which deliveries are made again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"since": "2026-01-01T00:00:00Z"}]})

    since: Moment = Field(description="Those that failed, of events since this time")
