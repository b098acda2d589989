"""A request's line in the log has the form of all others."""

import json
import subprocess
import sys

from tests.conftest import ROOT

LOGGING = """
import logging
from structlog.contextvars import bind_contextvars
from api.logs import configure_logs
configure_logs()
bind_contextvars(request_id="r-1")
for name in ("uvicorn.access", "uvicorn.error"):
    logging.getLogger(name).info('%s - "%s" %d', "::1", "GET /ü?a=\\\\", 202)
"""


def test_a_request_is_logged_like_everything_else() -> None:
    command = [sys.executable, "-c", LOGGING]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    access, other = (json.loads(line) for line in done.stderr.splitlines())
    assert access["event"] == other["event"] == '::1 - "GET /ü?a=\\" 202'
    assert access.keys() == other.keys()
    assert access["request_id"] == other["request_id"] == "r-1"
    assert (access["level"], access["logger"]) == ("info", "uvicorn.access")
    assert len(access["timestamp"]) == len(other["timestamp"])
    assert access["timestamp"].endswith("Z")
