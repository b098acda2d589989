"""What an operator may set, by environment variables that start with LADING_.

Durations are seconds, sizes bytes. Secrets have no default.
"""

from datetime import timedelta
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MEBIBYTE = 1024 * 1024
DAY = 24 * 60 * 60  # seconds
SHORTEST_SECRET = 32  # characters; of hexadecimal digits, 128 bits
Network = IPv4Network | IPv6Network


class Settings(BaseSettings):
    """One frozen value per process, read once by its entry module."""

    model_config = SettingsConfigDict(env_prefix="LADING_", frozen=True, extra="ignore")

    database_url: SecretStr = Field(
        description="PostgreSQL 15 or newer: postgresql://user:password@host:port/name"
    )
    broker_url: SecretStr = Field(
        description="Redis 7 or Valkey, for doorbells and hints: redis://host:port/0"
    )
    kinds: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Importable modules with your own kinds, comma-separated"
    )
    files_dir: Path = Field(
        default=Path(".lading/files"),
        description="Where uploaded and made files lie; shared by api and workers",
    )
    lease_seconds: float = Field(
        default=30,
        ge=2,
        description="How long a silent worker keeps its jobs; heartbeat, self-fence and sweeps"
        " scale with it",
    )
    soft_shutdown_seconds: float = Field(
        default=25,
        ge=0,
        description="How long a worker that is told to stop lets its attempts run on",
    )
    cancel_grace_seconds: float = Field(
        default=10,
        ge=0,
        description="How long an attempt that does not heed a cancel request goes on in a pool"
        " process, before that is killed",
    )
    retain_succeeded_seconds: float = Field(
        default=7 * DAY, gt=0, description="How long succeeded and cancelled jobs are kept"
    )
    retain_failed_seconds: float = Field(
        default=30 * DAY, gt=0, description="How long failed jobs are kept"
    )
    retain_logs_seconds: float = Field(
        default=7 * DAY, gt=0, description="How long log lines are kept after their job's end"
    )
    retain_keys_seconds: float = Field(
        default=DAY, ge=DAY, description="How long an Idempotency-Key is remembered"
    )
    retain_audit_seconds: float = Field(
        default=365 * DAY, gt=0, description="How long it is kept who did what"
    )
    retain_events_seconds: float = Field(
        default=30 * DAY, gt=0, description="How long published events are kept"
    )
    max_file_bytes: int = Field(default=1024 * MEBIBYTE, gt=0, description="Of one upload")
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Web origins, besides the API's own, whose pages may open WebSockets and send"
        " requests (CORS), comma-separated: https://app.example",
    )
    sockets_per_key: int = Field(
        default=1000, ge=1, description="WebSockets that one API key may have open at a process"
    )
    flower_url: str | None = Field(
        default=None, description="Where people reach Flower; jobs link to their attempts there"
    )
    mail_from: str = Field(
        default="Lading <lading@localhost>", description="The sender where a mail names none"
    )
    smtp_host: str = Field(default="127.0.0.1", description="The mail server")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Its port")
    smtp_security: Literal["none", "starttls", "tls"] = Field(
        default="none", description="Encryption towards the mail server"
    )
    smtp_username: str | None = Field(default=None, description="Login at the mail server")
    smtp_password: SecretStr | None = Field(default=None, description="And its password")
    templates_dir: Path | None = Field(
        default=None, description="Mail templates of your own, a folder each, beside `welcome`"
    )
    http_allow_networks: Annotated[tuple[Network, ...], NoDecode] = Field(
        default=(),
        description="Private networks that http.request and webhooks may reach, comma-separated"
        " CIDRs",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="What webhook secrets are encrypted with at rest: 32 or more random characters"
        " (`openssl rand -hex 32`). Comma-separated, the first encrypts and all decrypt",
    )
    webhook_disable_after_seconds: float = Field(
        default=5 * DAY,
        gt=0,
        description="How long an endpoint may fail without one success, before it is switched off",
    )
    retain_deliveries_seconds: float = Field(
        default=30 * DAY, gt=0, description="How long ended webhook deliveries are kept"
    )

    @field_validator("secret_key")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if any(len(text) < SHORTEST_SECRET for text in _split(value)):
            raise ValueError(f"a secret key has {SHORTEST_SECRET} or more characters")
        return value

    @field_validator("kinds", "allowed_origins", "http_allow_networks", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @property
    def lease(self) -> timedelta:
        """A running attempt's claim on its job; six heartbeats."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def heartbeat(self) -> timedelta:
        """Six chances before a lease is gone."""
        return self.lease / 6

    @property
    def self_fence(self) -> timedelta:
        """After so long without renewal a worker ends its attempts: two beats before the lease."""
        return self.lease * 2 / 3

    @property
    def retained_deliveries(self) -> timedelta:
        """How long ended deliveries are kept."""
        return timedelta(seconds=self.retain_deliveries_seconds)

    @property
    def secret_keys(self) -> list[str]:
        """The keys for secrets at rest, the one that encrypts first; empty: there is none."""
        return _split(self.secret_key)

    @property
    def sqlalchemy_url(self) -> str:
        """The database URL with the driver that is used."""
        url = self.database_url.get_secret_value()
        scheme, separator, rest = url.partition("://")
        return f"postgresql+psycopg{separator}{rest}" if scheme in _SCHEMES else url


def _split(value: SecretStr | None) -> list[str]:
    text = "" if value is None else value.get_secret_value()
    return [part.strip() for part in text.split(",") if part.strip()]


_SCHEMES = frozenset({"postgres", "postgresql"})


@cache
def load_settings() -> Settings:
    """The environment's settings, read once; pydantic.ValidationError names what is missing."""
    return Settings()
