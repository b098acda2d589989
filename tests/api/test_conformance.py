"""The API does what its OpenAPI document says: schemathesis tries it, with all of its checks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.serving import Api

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
SECONDS = 280
EXAMPLES = 10  # an operation, beside those that are derived from the document one by one


@pytest.mark.slow
def test_the_api_keeps_its_document(api: Api, tmp_path: Path) -> None:
    command = [
        *[sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)],
        *["run", f"{api.url}/openapi.json", "--header", f"Authorization: Bearer {api.key}"],
        *["--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"],
    ]
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
