from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kinds.email import EmailSendArgs, send
from lading.authoring import find_kind
from tests.kinds.conftest import Configure

HELLO = {"to": ["ann@example.org"], "subject": "Hello", "text": "It works."}
WELCOME = {"to": ["ann@example.org"], "template": "welcome", "variables": {"name": "Ann"}}


@pytest.fixture(autouse=True)
def _no_templates_of_our_own(configure: Configure) -> None:
    configure()


def without(field: str, **others: Any) -> dict[str, Any]:
    return {name: value for name, value in {**HELLO, **others}.items() if name != field}


def places(args: dict[str, Any]) -> list[tuple[int | str, ...]]:
    with pytest.raises(ValidationError) as refused:
        EmailSendArgs.model_validate(args)
    return [error["loc"] for error in refused.value.errors()]


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.org",
        "Ann <ann@example.org>",
        '"Doe, Ann" <ann@example.org>',
        "<ann@example.org>",
        "root@localhost",
        "ann@shop.test",
        "a.b+c_d-e'f@sub.Example.ORG",
        "ann@bücher.example",
        "jürgen@example.org",
        "日本 <info@例え.テスト>",
    ],
)
def test_these_are_addresses(address: str) -> None:
    args = {**HELLO, "to": [address], "cc": [address], "from": address, "reply_to": address}
    stored = EmailSendArgs.model_validate(args).model_dump(mode="json")
    assert (stored["to"], stored["from"]) == ([address], address)


BAD_ADDRESSES = [
    "",
    "ann",
    "@example.org",
    "ann@",
    "ann@@example.org",
    "ann@example..org",
    "ann@.example.org",
    "ann@-example.org",
    "ann@exa mple.org",
    "ann@exa_mple.org",
    "ann@127.0.0.1",
    "ann@[127.0.0.1]",
    ".ann@example.org",
    "an..n@example.org",
    "ann smith@example.org",
    "ann@example.org, bob@example.org",
    "ann@example.org>",
    "<ann@example.org",
    "Ann <ann@example.org> x",
    "ann<script>@example.org",
    f"{'a' * 65}@example.org",
    f"ann@{'a' * 64}.org",
    f"{'ä' * 33}@example.org",
    f"ann@{'.'.join(['a' * 60] * 5)}",
    f"{'A' * 201} <ann@example.org>",
]
INJECTIONS = [
    "Ann\r\nBcc: spy@example.org\r\n <ann@example.org>",
    "ann@example.org\r\nDATA",
    "ann@example.org\n",
    "ann\r@example.org",
    "Ann\0 <ann@example.org>",
    "Ann\u2028Bcc: spy@example.org <ann@example.org>",
    "Ann\x85 <ann@example.org>",
    "an\u200bn\u2029@example.org",
    "ann>\r\nRCPT TO:<spy@example.org",
]


@pytest.mark.parametrize("address", BAD_ADDRESSES + INJECTIONS)
def test_these_are_none(address: str) -> None:
    assert places({**HELLO, "to": ["bob@example.org", address]}) == [("to", 1)]
    for field in ("cc", "bcc"):
        assert places({**HELLO, field: [address]}) == [(field, 0)]
    for field in ("from", "reply_to"):
        assert places({**HELLO, field: address}) == [(field,)]


@pytest.mark.parametrize(
    "subject", ["a\r\nBcc: spy@example.org", "a\nb", "a\0", "\x1b[31m", "\u2028"]
)
def test_a_subject_is_one_line(subject: str) -> None:
    assert places({**HELLO, "subject": subject}) == [("subject",)]
    assert places({**WELCOME, "subject": subject}) == [("subject",)]


@pytest.mark.parametrize(
    ("args", "place"),
    [
        ({**HELLO, "to": []}, ("to",)),
        (without("to"), ("to",)),
        ({**HELLO, "to": "ann@example.org"}, ("to",)),
        ({**HELLO, "to": ["ann@example.org"] * 101}, ("to",)),
        ({**HELLO, "subject": "x" * 901}, ("subject",)),
        (without("text"), ("text",)),
        ({**HELLO, "text": ""}, ("text",)),
        (without("text", html=""), ("text",)),
        ({**HELLO, "variables": {"name": "Ann"}}, ("variables",)),
        ({**HELLO, "attachments": ["no-uuid"]}, ("attachments", 0)),
        ({**HELLO, "sender": "ann@example.org"}, ("sender",)),
        ({**HELLO, "headers": {"X": "y"}}, ("headers",)),
        ({**WELCOME, "text": "as well"}, ("text",)),
        ({**WELCOME, "html": "as well"}, ("html",)),
        ({**WELCOME, "template": "unknown"}, ("template",)),
        ({**WELCOME, "template": "../templates/welcome"}, ("template",)),
        ({**WELCOME, "template": "/etc"}, ("template",)),
        ({**WELCOME, "template": "welcome/body.txt"}, ("template",)),
        ({**WELCOME, "template": ""}, ("template",)),
    ],
)
def test_what_cannot_be_sent_is_refused_at_its_field(
    args: dict[str, Any], place: tuple[int | str, ...]
) -> None:
    assert places(args) == [place]


def test_html_alone_and_a_template_alone_are_enough() -> None:
    assert EmailSendArgs.model_validate(without("text", html="<p>")).text is None
    assert EmailSendArgs.model_validate(WELCOME).subject is None


@pytest.mark.parametrize("given", [{}, {"variables": {}}, {"variables": {"nome": "Ann"}}])
def test_a_missing_variable_is_named_at_the_submission(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="'name' is undefined") as refused:
        EmailSendArgs.model_validate({"to": HELLO["to"], "template": "welcome", **given})
    assert [error["loc"] for error in refused.value.errors()] == [("variables",)]


@pytest.mark.parametrize("body", ["{{ 1 / amount }}", "{{ amount.x.y }}", "{{ amount | nosuch }}"])
def test_what_a_template_stumbles_over_is_refused_at_the_submission(
    configure: Configure, tmp_path: Path, body: str
) -> None:
    (tmp_path / "bill").mkdir()
    (tmp_path / "bill" / "subject.txt").write_text("Bill")
    (tmp_path / "bill" / "body.txt").write_text(body)
    configure(templates_dir=tmp_path)
    args = {"to": ["ann@example.org"], "template": "bill", "variables": {"amount": 0}}
    assert places(args) == [("variables",)]


def test_stored_args_are_valid_again() -> None:
    for args in (HELLO, WELCOME, {**HELLO, "from": "ann@example.org"}):
        stored = EmailSendArgs.model_validate(args).model_dump(mode="json")
        assert EmailSendArgs.model_validate(stored).model_dump(mode="json") == stored


def test_the_schema_tells_what_a_client_needs() -> None:
    kind = find_kind(send)
    assert kind is not None
    schema = kind.args_model.model_json_schema(by_alias=True)
    assert (schema["required"], schema["additionalProperties"]) == (["to"], False)
    assert {"from", "reply_to", "template", "attachments"} <= schema["properties"].keys()
    for example in schema["examples"]:
        EmailSendArgs.model_validate(example)
    assert set(kind.result_adapter.json_schema()["properties"]) == {
        "message_id",
        "accepted",
        "refused",
    }
