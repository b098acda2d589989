from typing import Any

import pytest
from pydantic import ValidationError

from kinds.http import HttpRequestArgs, request
from lading.authoring import find_kind

GET: dict[str, Any] = {"method": "GET", "url": "https://shop.example/tea?n=2"}


@pytest.mark.parametrize(
    ("args", "place"),
    [
        ({"url": GET["url"]}, ("method",)),
        ({"method": "GET"}, ("url",)),
        ({**GET, "method": "BREW"}, ("method",)),
        ({**GET, "method": "GET / HTTP/1.1\r\nX: y"}, ("method",)),
        ({**GET, "method": 7}, ("method",)),
        ({**GET, "url": "shop.example"}, ("url",)),
        ({**GET, "url": "ftp://shop.example/"}, ("url",)),
        ({**GET, "url": "file:///etc/passwd"}, ("url",)),
        ({**GET, "url": "http://"}, ("url",)),
        ({**GET, "url": "https://ann:secret@shop.example/"}, ("url",)),
        ({**GET, "url": "https://ann@shop.example/"}, ("url",)),
        ({**GET, "headers": {f"X-{n}": "y" for n in range(65)}}, ("headers",)),
        ({**GET, "headers": {"X-A": "one\r\nX-B: two"}}, ("headers", "X-A")),
        ({**GET, "headers": {"X-A": "nul\0"}}, ("headers", "X-A")),
        ({**GET, "headers": {"X-A": " led"}}, ("headers", "X-A")),
        ({**GET, "headers": {"X-A": "grün"}}, ("headers", "X-A")),
        ({**GET, "headers": {"X-A": "x" * 8193}}, ("headers", "X-A")),
        ({**GET, "headers": {"X A": "y"}}, ("headers",)),
        ({**GET, "headers": {"X-A\r\nX-B": "y"}}, ("headers",)),
        ({**GET, "headers": {"": "y"}}, ("headers",)),
        ({**GET, "headers": {"HOST": "bank.example"}}, ("headers",)),
        ({**GET, "headers": {"Transfer-Encoding": "x"}}, ("headers",)),
        ({**GET, "json": {}, "body": ""}, ("body",)),
        ({**GET, "timeout": 0}, ("timeout",)),
        ({**GET, "timeout": 601}, ("timeout",)),
        ({**GET, "follow": True}, ("follow",)),
        ({**GET, "json_value": {}}, ("json_value",)),
    ],
)
def test_what_cannot_be_asked_is_refused_at_its_field(
    args: dict[str, Any], place: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as refused:
        HttpRequestArgs.model_validate(args)
    assert [error["loc"] for error in refused.value.errors()] == [place]


def test_a_refused_value_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(ValidationError) as refused:
        HttpRequestArgs.model_validate({**GET, "headers": {"Authorization": "Bearer s3cret\r\n"}})
    assert "s3cret" not in str(refused.value)


def test_header_values_are_redacted_in_reads() -> None:
    headers = {"Authorization": "Bearer s3cret"}
    args = HttpRequestArgs.model_validate({**GET, "headers": headers, "json": [1]})
    assert args.model_dump(mode="json") == {
        "method": "GET",
        "url": GET["url"],
        "headers": {"Authorization": "**********"},
        "json": [1],
        "body": None,
        "timeout": 30.0,
    }
    assert args.headers["Authorization"].get_secret_value() == "Bearer s3cret"


def test_the_schema_tells_what_a_client_needs() -> None:
    kind = find_kind(request)
    assert kind is not None
    assert (kind.queue, kind.is_async) == ("io", True)
    schema = kind.args_model.model_json_schema(by_alias=True)
    assert (schema["required"], schema["additionalProperties"]) == (["method", "url"], False)
    assert set(schema["properties"]) == {"method", "url", "headers", "json", "body", "timeout"}
    assert schema["properties"]["headers"]["additionalProperties"]["format"] == "password"
    for example in schema["examples"]:
        HttpRequestArgs.model_validate(example)
    assert set(kind.result_adapter.json_schema()["properties"]) == {
        "status",
        "headers",
        "body",
        "truncated",
    }
