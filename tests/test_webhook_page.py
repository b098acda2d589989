"""What docs/how-to/webhooks.md tells receivers to do, done."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.ids import uuid7
from jobs.webhooks.fanning import BusEvent, body_of
from jobs.webhooks.signing import make_secret, signed
from tests.conftest import ROOT

PAGE = (ROOT / "docs/how-to/webhooks.md").read_text()


def test_the_pages_receiver_takes_what_is_sent_once(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    scope: dict[str, Any] = {}
    exec(compile(source, "webhooks.md", "exec"), scope)
    document = {"specversion": "1.0", "id": "1", "source": "tests", "type": "user.created"}
    body = body_of(BusEvent({**document, "data": {"name": "Änn"}})).encode()
    secret, now = make_secret(), int(datetime.now(UTC).timestamp())
    headers = signed([make_secret(), secret], uuid7(), now, body)
    for _ in range(2):
        assert scope["receive"](body, headers, secret) == 204
    assert capsys.readouterr().out == "user.created {'name': 'Änn'}\n"
    assert scope["receive"](body + b" ", headers, secret) == 401
    assert scope["receive"](body, headers, make_secret()) == 401
