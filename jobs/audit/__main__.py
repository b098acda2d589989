"""`python -m jobs.audit [--json]`: exit 0 clean, 1 with findings, 3 when the database is away.

It audits the database of LADING_DATABASE_URL, or of the `make dev` that runs here.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from jobs import database
from jobs.audit.snapshot import Audit, audit
from jobs.errors import DatabaseUnavailable
from jobs.settings import Settings

FOUND, UNREACHABLE = 1, 3  # exit statuses
SHOWN = 20  # findings; --json has all


def main(arguments: list[str] | None = None) -> int:
    """The command's exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.audit", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    given = parser.parse_args(arguments)
    url = _database_url(os.environ)
    if url is None:
        sys.stderr.write("no database: set LADING_DATABASE_URL, or start `make dev`\n")
        return UNREACHABLE
    try:
        seen = _audit(Settings(database_url=SecretStr(url), broker_url=SecretStr("")))
    except DatabaseUnavailable as error:
        sys.stderr.write(f"{error}: {error.__cause__}\n")
        return UNREACHABLE
    sys.stdout.write(_document(seen) if given.json else _table(seen))
    return 0 if seen.is_clean else FOUND


def _database_url(environment: Mapping[str, str]) -> str | None:
    if url := environment.get("LADING_DATABASE_URL"):
        return url
    record = Path(environment.get("LADING_DATA_DIR") or ".lading") / "dev.json"
    if not record.exists():
        return None
    return str(json.loads(record.read_text())["database_url"])


def _audit(settings: Settings) -> Audit:
    engine = database.make_engine(settings, name="audit", size=1)
    try:
        with database.translated(), engine.connect() as connection:
            return audit(connection, settings.lease)
    finally:
        engine.dispose()


def _table(seen: Audit) -> str:
    width = max(map(len, seen.counts))
    lines = [f"{check:<{width}}  {count:>8}" for check, count in seen.counts.items()]
    shown = [" ".join(str(part) for part in finding if part) for finding in seen.findings[:SHOWN]]
    if len(seen.findings) > SHOWN:
        shown.append(f"… and {len(seen.findings) - SHOWN} more: --json lists them")
    verdict = "clean" if seen.is_clean else f"{len(seen.findings)} findings"
    title = f"{seen.jobs} jobs, {seen.events} events at {seen.at:%Y-%m-%d %H:%M:%S} UTC: {verdict}"
    return "\n".join([*lines, "", *shown, title]) + "\n"


def _document(seen: Audit) -> str:
    findings = [
        {"check": each.check, "job_id": each.job_id and str(each.job_id), "detail": each.detail}
        for each in seen.findings
    ]
    facts = {"at": seen.at.isoformat(), "jobs": seen.jobs, "events": seen.events}
    return json.dumps({**facts, "counts": seen.counts, "findings": findings}, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
