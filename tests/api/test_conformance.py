"""The API does what its OpenAPI document says: schemathesis tries it, with all of its checks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.serving import Api

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
SECONDS = 500
EXAMPLES = 5  # an operation, beside those that are derived from the document one by one
OF_JOBS, OF_EVENTS = "^/v1/(jobs|batches)", "^/v1/(events|schedules|triggers|webhooks)"
#: Tried side by side: between two requests schemathesis does nothing for some forty milliseconds.
SHARES = (
    ["--include-path-regex", OF_JOBS],
    ["--include-path-regex", OF_EVENTS],
    ["--exclude-path-regex", f"{OF_JOBS}|{OF_EVENTS}"],
)


@pytest.mark.slow
def test_the_api_keeps_its_document(api: Api, tmp_path: Path) -> None:
    command = [
        *[sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)],
        *["run", f"{api.url}/openapi.json", "--header", f"Authorization: Bearer {api.key}"],
        *["--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"],
    ]
    env = {**os.environ, "COLUMNS": "120"}
    outputs = [tmp_path / str(number) for number in range(len(SHARES))]
    tries = [
        subprocess.Popen(
            [*command, *share],
            cwd=tmp_path,
            stdout=out.open("wb"),
            stderr=subprocess.STDOUT,
            env=env,
        )
        for share, out in zip(SHARES, outputs, strict=True)
    ]
    try:
        codes = [each.wait(SECONDS) for each in tries]
    finally:
        for each in tries:
            each.kill()
            each.wait()
    for code, out in zip(codes, outputs, strict=True):
        assert code == 0, out.read_text(errors="replace")[-20_000:]
