"""What clients send, with the bounds that keep everything within what PostgreSQL stores."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    model_validator,
)

from jobs.keys.limits import MOST_PATTERNS, PATTERN, KeyLimits
from jobs.keys.scopes import ROLES, Scope
from jobs.submissions import (
    EARLIEST,
    LONGEST,
    MAX_LABEL_LENGTH,
)
from jobs.webhooks.signing import secret_bytes
from lading.authoring import NAME_LENGTH, QUEUE

_LATEST = datetime(9000, 1, 1, tzinfo=UTC)  # far enough from the last day that Python can name
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_STORABLE = r"^[^\x00]*$"  # PostgreSQL keeps any character but this one


def _is_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("Input should be a number")  # noqa: TRY004 - Pydantic reports ValueError
    return value


def _is_rfc_3339(value: Any) -> Any:
    if not (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        raise ValueError("Input should be a time with date and offset, as RFC 3339 writes it")
    return value


def _is_storable(value: datetime) -> datetime:
    if not EARLIEST <= value <= _LATEST:
        raise ValueError(f"Input should lie between {EARLIEST.year} and {_LATEST.year}")
    return value


def _is_near(value: datetime) -> datetime:
    if value - datetime.now(UTC) > LONGEST:
        raise ValueError("Input should lie within the next ten years")
    return value


def _is_ahead(value: datetime) -> datetime:
    if value <= datetime.now(UTC):
        raise ValueError("Input should lie in the future")
    return value


def _without_secrets(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("credentials do not belong into the address; deliveries are signed")
    if url.fragment is not None:
        raise ValueError("a fragment is not sent")
    return url


def _is_secret(value: SecretStr) -> SecretStr:
    secret_bytes(value.get_secret_value())
    return value


Integer = Annotated[int, BeforeValidator(_is_number)]
Seconds = Annotated[
    float, BeforeValidator(_is_number), Field(le=LONGEST.total_seconds(), allow_inf_nan=False)
]
Moment = Annotated[AwareDatetime, BeforeValidator(_is_rfc_3339), AfterValidator(_is_storable)]
Text = Annotated[str, Field(pattern=_STORABLE)]
WebhookUrl = Annotated[HttpUrl, AfterValidator(_without_secrets), Field(max_length=2000)]
QueueName = Annotated[str, Field(pattern=f"^(?:{QUEUE.pattern})$", max_length=NAME_LENGTH)]
KindPattern = Annotated[str, Field(pattern=f"^(?:{PATTERN.pattern})$", max_length=NAME_LENGTH)]
Label = Annotated[str, Field(pattern=_STORABLE, max_length=MAX_LABEL_LENGTH)]
LabelKey = Annotated[str, Field(pattern=_STORABLE, min_length=1, max_length=MAX_LABEL_LENGTH)]


def _example(body: dict[str, Any]) -> ConfigDict:
    """What the documentation offers to be tried out."""
    return ConfigDict(json_schema_extra={"examples": [body]})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Cancellation(_Body):
    """Why a job should end."""

    model_config = _example({"reason": "not needed any more"})

    reason: Annotated[Text, Field(max_length=1000)] | None = Field(
        default=None, description="Stands in the `cancelled` event"
    )


class Rerun(_Body):
    """What the repetition does otherwise."""

    model_config = _example({"args": {"seconds": 2}})

    args: dict[str, Any] | None = Field(default=None, description="Instead of the first job's")


class KeyRate(_Body):
    """How often a key may ask; each API process counts for itself."""

    per_second: Annotated[float, BeforeValidator(_is_number), Field(gt=0, le=100_000)] = Field(
        description="Requests a second", examples=[10]
    )
    burst: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Requests at once, after a while of silence; those of a second, if not given",
    )


class NewKey(_Body):
    """A request for an API key. What is not given is as wide as the key's that asks."""

    model_config = _example({"name": "deploy", "role": "submitter", "kinds": ["email.*"]})

    name: Annotated[Text, Field(min_length=1, max_length=100)] = Field(
        description="What people know it by", examples=["deploy"]
    )
    scopes: Annotated[list[Scope], Field(min_length=1)] | None = Field(
        default=None, description="What it opens; everything, if neither they nor a role are given"
    )
    role: Literal["reader", "submitter", "operator", "admin"] | None = Field(
        default=None, description="A usual set of scopes, instead of them"
    )
    kinds: Annotated[list[KindPattern], Field(min_length=1, max_length=MOST_PATTERNS)] | None = (
        Field(default=None, description="Patterns of the kinds that it may run", examples=[["*"]])
    )
    expires_at: Annotated[Moment, AfterValidator(_is_near), AfterValidator(_is_ahead)] | None = (
        Field(default=None, description="From then on it opens nothing")
    )
    rate: KeyRate | None = Field(default=None, description="How often it may ask")

    @model_validator(mode="after")
    def _says_once_what_it_opens(self) -> Self:
        if self.scopes is not None and self.role is not None:
            raise ValueError("scopes and role exclude each other")
        return self

    def opens(self) -> frozenset[Scope]:
        """The scopes, whichever way they were named."""
        if self.role is not None:
            return ROLES[self.role]
        return frozenset(self.scopes or [Scope.ADMIN])

    def limits(self) -> KeyLimits:
        """What was asked for; None where nothing was."""
        if self.rate is None:
            return KeyLimits(self.kinds, self.expires_at)
        burst = self.rate.burst or max(1, math.ceil(self.rate.per_second))
        return KeyLimits(self.kinds, self.expires_at, self.rate.per_second, burst)


class NewProject(_Body):
    """A request for a project."""

    model_config = _example({"id": "shop", "name": "The web shop"})

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = Field(
        description="As in addresses", examples=["shop"]
    )
    name: Annotated[Text, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="What people call it; its id, if not given"
    )


class NewTicket(_Body):
    """A request for a ticket."""

    model_config = _example({"scopes": ["jobs:read"]})

    scopes: Annotated[
        list[Literal["jobs:read", "jobs:write", "events:read", "events:consume", "events:write"]],
        Field(min_length=1),
    ] = Field(description="What its socket may do; if not given, what the key may")


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
