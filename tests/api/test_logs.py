"""A request's line in the log has the form of all others."""

import json
import subprocess
import sys
from typing import Any

import pytest

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


SERVING = """
import logging
import sys
import uvicorn
config = uvicorn.Config("none", **eval(sys.argv[1]))
from api.logs import configure_logs
configure_logs()
print(logging.getLogger("uvicorn.access").hasHandlers())  # as uvicorn asks for each connection
"""


@pytest.mark.parametrize(
    ("options", "asks"),
    [
        ({}, True),
        ({"access_log": False}, False),
        ({"log_level": "warning"}, False),
        ({"log_level": "debug"}, True),
    ],
)
def test_who_wants_no_lines_of_requests_does_not_pay_for_them(
    options: dict[str, Any], asks: bool
) -> None:
    command = [sys.executable, "-c", SERVING, repr(options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    assert done.stdout.strip() == str(asks)
