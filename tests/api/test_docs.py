"""The documentation: whole without the internet, and true."""

import re
from typing import Any

import httpx2
import pytest

from api.problems import MEDIA_TYPE
from tests.api.serving import Api


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{api.url}/openapi.json", timeout=40).json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_page_loads_nothing_from_elsewhere(api: Api) -> None:
    with httpx2.Client(base_url=api.url, timeout=40) as anybody:
        assert anybody.get("/").headers["location"] == "/docs"
        page = anybody.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "http://" not in page.text
        assert "https://" not in page.text
        links = re.findall(r'(?:src|href|data-openapi)="([^"]+)"', page.text)
        assert len(links) >= 4
        for link in links:
            assert anybody.get(link).status_code == 200, link
        assert "SwaggerUIBundle" in anybody.get("/static/docs.js").text
        assert "validatorUrl: null" in anybody.get("/static/docs.js").text


def test_the_module_for_pages_is_small_and_needs_no_other(api: Api) -> None:
    module = httpx2.get(f"{api.url}/static/lading.js", timeout=40)
    assert len(module.content) <= 8 * 1024
    assert not re.search(r"\bimport\b", module.text)


def test_every_error_is_declared_as_a_problem(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "4" and path not in {"/livez", "/readyz"}:
                schema = response["content"][MEDIA_TYPE]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (path, method, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_keys_are_asked_for_where_they_are_needed(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, _, operation in operations(document):
        keyless = path in {"/livez", "/readyz"}
        assert (operation.get("security") == [{"bearer": []}]) != keyless, path
        assert ("401" in operation["responses"]) != keyless


def test_headers_are_declared(document: dict[str, Any]) -> None:
    accepted = document["paths"]["/v1/jobs"]["post"]["responses"]["202"]["headers"]
    assert {"Location", "Retry-After", "ETag", "Idempotency-Replayed"} <= accepted.keys()
    for _, _, operation in operations(document):
        for response in operation["responses"].values():
            assert "X-Request-ID" in response["headers"]
    names = {p["name"] for p in document["paths"]["/v1/jobs"]["post"]["parameters"]}
    assert names == {"Idempotency-Key", "Prefer"}


def test_what_a_change_leaves_out_has_no_default(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    patches = [body for _, method, body in operations(document) if method == "patch"]
    assert len(patches) >= 3
    for operation in patches:
        (content,) = operation["requestBody"]["content"].values()
        fields = schemas[content["schema"]["$ref"].rpartition("/")[2]]["properties"]
        assert fields
        assert not [name for name, field in fields.items() if "default" in field]


def test_operations_have_names_and_words_of_their_own(document: dict[str, Any]) -> None:
    found = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(found) == len(set(found))
    for path, method, operation in operations(document):
        assert operation.get("description"), (method, path)
