"""The database's own audit, after each scenario: everything that it can check of itself."""

from pydantic import SecretStr

from chaos.platform import Platform
from jobs import database
from jobs.audit import audit
from jobs.settings import Settings


def find_faults(platform: Platform) -> list[str]:
    """What the audit finds in the whole database, but for what it has found before."""
    settings = Settings(
        database_url=SecretStr(platform.postgres.url), broker_url=SecretStr(platform.valkey.url)
    )
    engine = database.make_engine(settings, name="chaos", size=1)
    try:
        with engine.connect() as connection:
            found = audit(connection).findings
    finally:
        engine.dispose()
    faults = {f"audit: {each.check} {each.job_id or ''} {each.detail}" for each in found}
    new = faults - platform.known_faults
    platform.known_faults |= new
    return sorted(new)
