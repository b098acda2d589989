"""http.request: one HTTP exchange, tried until the server gives an answer that stands.

The job's work is the exchange: when it is complete, the job has succeeded and its result says how
the server answered, a 404 or a redirect to another host included. What may be different in a
moment (408, 425, 429, 5xx, a timeout, a broken connection) is a failure, retried by the policy and
not before a Retry-After is over. A target that may not be reached fails the job for good.

A request may be made more than once. POST and PATCH carry an Idempotency-Key, the same on every
attempt, unless the args bring one.
"""

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    JsonValue,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from jobs.settings import load_settings
from lading import AsyncJobContext, job

LONGEST = 600  # seconds of one exchange; more is a stream, not a request
HEADERS = 64
HEADER_LENGTH = 8192  # characters; what servers commonly take for all of them together
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # a token, RFC 9110 §5.6.2
VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?|")  # without line breaks, RFC 9110 §5.5
# These belong to the connection, and the checked host name stays what it is.
OURS = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te"}
    | {"trailer", "transfer-encoding", "upgrade"}
)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _without_credentials(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("credentials belong into a header, whose value is redacted in reads")
    return url


def _header_names(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name in headers:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in OURS:
            raise ValueError(f"{name} is set by the client itself")
    return headers


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) > HEADER_LENGTH or not VALUE.fullmatch(text):
        raise ValueError(f"a header's value is one line of ≤ {HEADER_LENGTH} ASCII characters")
    return value


Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


class HttpRequestArgs(BaseModel):
    """What to ask, and of whom."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,  # it may be a secret
        serialize_by_alias=True,
        json_schema_extra={
            "examples": [
                {
                    "method": "POST",
                    "url": "https://api.example.com/v1/orders",
                    "headers": {"Authorization": "Bearer <token>"},
                    "json": {"item": "tea", "count": 2},
                }
            ]
        },
    )

    method: Annotated[Method, BeforeValidator(_upper)]
    url: Annotated[HttpUrl, AfterValidator(_without_credentials)] = Field(
        description="A public host; others only where LADING_HTTP_ALLOW_NETWORKS lists them"
    )
    headers: Annotated[
        dict[str, Annotated[SecretStr, AfterValidator(_header_value)]],
        AfterValidator(_header_names),
    ] = Field(default={}, max_length=HEADERS, description="Their values are redacted in reads")
    json_value: JsonValue = Field(
        default=None, alias="json", description="Sent as application/json; null: none is sent"
    )
    body: str | None = Field(default=None, description="Sent as UTF-8, instead of json")
    timeout: float = Field(
        default=30, gt=0, le=LONGEST, description="Seconds for the whole exchange, of one attempt"
    )

    @field_validator("body")
    @classmethod
    def _either(cls, body: str | None, info: ValidationInfo) -> str | None:
        if body is not None and info.data.get("json_value") is not None:
            raise ValueError("give json or body, not both")
        return body


class HttpRequestResult(BaseModel):
    """How the server answered."""

    status: int
    headers: dict[str, str] = Field(
        description="By lower-case name; several of one name are joined by commas"
    )
    body: str = Field(
        description="Its first 256 KiB, uncompressed: as text, or as a data: URL in base64 when it"
        " is no text (or itself begins with data:)"
    )
    truncated: bool = Field(description="Whether the body went on")


@job("http.request", queue="io", timeout=LONGEST + 30)
async def request(context: AsyncJobContext, args: HttpRequestArgs) -> HttpRequestResult:
    """Make the request, and bring the answer."""
    from kinds.http_exchange import Call, exchange  # noqa: PLC0415 - httpx2; the api needs none
    from kinds.http_guard import GuardedTransport  # noqa: PLC0415

    call = Call(
        method=args.method,
        url=str(args.url),
        headers={name: value.get_secret_value() for name, value in args.headers.items()},
        json=args.json_value,
        body=args.body,
        timeout=args.timeout,
        idempotency_key=context.idempotency_key,
    )
    answer = await exchange(call, GuardedTransport(load_settings().http_allow_networks))
    return HttpRequestResult(
        status=answer.status, headers=answer.headers, body=answer.body, truncated=answer.truncated
    )
