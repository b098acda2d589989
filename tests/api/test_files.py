"""Files over HTTP: streamed in, whole or in ranges out, names never trusted."""

import hashlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api import schemas
from tests.api.serving import Api, problem, serve
from tests.eventually import eventually

TEXT = b"0123456789" * 10
NOBODY = "00000000-0000-7000-8000-000000000000"


def upload(api: Api, content: bytes, name: str = "a.txt", media_type: str = "text/plain") -> Any:
    response = api.http.post("/v1/files", files={"file": (name, content, media_type)})
    assert response.status_code == 201, response.text
    schemas.File.model_validate_json(response.content)
    file = response.json()
    assert response.headers["location"] == f"/v1/files/{file['id']}"
    return file


def raw(api: Api, body: bytes, boundary: str = "b") -> httpx2.Response:
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return api.http.post("/v1/files", content=body, headers=headers)


def stored(api: Api) -> set[Path]:
    return {path for path in api.settings.files_dir.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 5 * 1024 * 1024 + 7])
def test_what_was_uploaded_is_what_is_downloaded(api: Api, size: int) -> None:
    content = hashlib.shake_128(b"seed").digest(size)
    file = upload(api, content, "data.bin", "application/x-thing")
    assert (file["size"], file["sha256"]) == (size, hashlib.sha256(content).hexdigest())
    assert (file["name"], file["media_type"]) == ("data.bin", "application/x-thing")
    assert api.http.get(f"/v1/files/{file['id']}").json() == file
    response = api.http.get(file["links"]["content"])
    assert response.content == content
    assert response.headers["content-type"] == "application/x-thing"
    assert response.headers["content-length"] == str(size)
    assert response.headers["etag"] == f'"{file["sha256"]}"'


def test_content_that_looks_like_a_boundary_survives(api: Api) -> None:
    content = b"\r\n--b\r\n--bb--\r\n\r\n-b--" * 1000
    assert api.http.get(upload(api, content)["links"]["content"]).content == content


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\tax.csv", "tax.csv"),
        ("/", "file"),
        ("..", "file"),
        ("naïve – ☃.csv", "naïve – ☃.csv"),
        ("x" * 300 + ".csv", "x" * 251 + ".csv"),
        ("a;b=c.txt", "a;b=c.txt"),
    ],
)
def test_a_name_is_shown_and_never_a_path(api: Api, sent: str, kept: str) -> None:
    before = stored(api)
    file = upload(api, TEXT, sent)
    assert file["name"] == kept
    (path,) = stored(api) - before
    assert path.name == file["id"]


def test_a_name_goes_safely_into_the_header(api: Api) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\\"\x01b\xe2\x98\x83%.txt"'
        b"\r\nContent-Type: text/html; charset=utf-7\r\n\r\n<script>\r\n--b--\r\n"
    )
    file = raw(api, body).json()
    assert file["media_type"] == "text/html"
    headers = api.http.get(file["links"]["content"]).headers
    assert headers["content-disposition"] == (
        "attachment; filename=\"a_b__.txt\"; filename*=UTF-8''a%22b%E2%98%83%25.txt"
    )
    assert headers["content-type"] == "text/html"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("header", "status", "start", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=90-", 206, 90, 100),
        ("bytes=90-5000", 206, 90, 100),
        ("bytes=-10", 206, 90, 100),
        ("bytes=-5000", 206, 0, 100),
        ("bytes=0-", 206, 0, 100),
        ("bytes=0-9,20-29", 200, 0, 100),
        ("bytes=9-0", 200, 0, 100),
        ("bytes=-", 200, 0, 100),
        ("lines=0-9", 200, 0, 100),
        ("bytes=a-b", 200, 0, 100),
        ("bytes=" + "9" * 5000 + "-", 200, 0, 100),
    ],
)
def test_ranges(api: Api, header: str, status: int, start: int, end: int) -> None:
    path = upload(api, TEXT)["links"]["content"]
    response = api.http.get(path, headers={"Range": header})
    assert (response.status_code, response.content) == (status, TEXT[start:end])
    assert response.headers["accept-ranges"] == "bytes"
    expected = f"bytes {start}-{end - 1}/100" if status == 206 else None
    assert response.headers.get("content-range") == expected
    head = api.http.head(path, headers={"Range": header})
    assert (head.status_code, head.content) == (status, b"")
    assert head.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=500-600", "bytes=-0"])
def test_a_range_behind_the_end_is_416(api: Api, header: str) -> None:
    response = api.http.get(upload(api, TEXT)["links"]["content"], headers={"Range": header})
    problem(response, 416, "range-not-satisfiable")
    assert response.headers["content-range"] == "bytes */100"


def test_a_range_of_another_version_is_the_whole(api: Api) -> None:
    file = upload(api, TEXT)
    headers = {"Range": "bytes=0-9", "If-Range": '"other"'}
    assert api.http.get(file["links"]["content"], headers=headers).status_code == 200
    headers["If-Range"] = f'"{file["sha256"]}"'
    assert api.http.get(file["links"]["content"], headers=headers).status_code == 206


def test_what_the_client_has_is_304(api: Api) -> None:
    file = upload(api, TEXT)
    tag = f'"{file["sha256"]}"'
    response = api.http.get(file["links"]["content"], headers={"If-None-Match": tag})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == tag


def test_a_deleted_file_is_gone_from_the_disk(api: Api) -> None:
    before = stored(api)
    file = upload(api, TEXT)
    assert api.http.delete(f"/v1/files/{file['id']}").status_code == 204
    assert stored(api) == before
    for path in (f"/v1/files/{file['id']}", file["links"]["content"]):
        problem(api.http.get(path), 404, "file-not-found")
    problem(api.http.delete(f"/v1/files/{file['id']}"), 404, "file-not-found")


@pytest.mark.parametrize(
    "file_id", ["00000000-0000-7000-8000-000000000000", "nonsense", "..%2F..%2Fetc"]
)
def test_an_unknown_file_is_404(api: Api, file_id: str) -> None:
    for path in ("", "/content"):
        response = api.http.get(f"/v1/files/{file_id}{path}")
        assert response.status_code == 404
        assert response.json()["code"] in {"file-not-found", "not-found"}


def test_other_projects_files_do_not_exist(api: Api) -> None:
    file = upload(api, TEXT)
    with api.client_of(project="another") as theirs:
        problem(theirs.get(file["links"]["content"]), 404, "file-not-found")
        problem(theirs.delete(f"/v1/files/{file['id']}"), 404, "file-not-found")


PART = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\nabc\r\n'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad-request"),
        (b"nonsense", 400, "bad-request"),
        (PART % b"file", 400, "bad-request"),
        (b"--b--\r\n", 422, "validation-failed"),
        (PART % b"other" + b"--b--\r\n", 422, "validation-failed"),
        (PART % b"file" + PART % b"file" + b"--b--\r\n", 422, "validation-failed"),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--b--\r\n',
            422,
            "validation-failed",
        ),
    ],
)
def test_a_form_that_does_not_fit_leaves_nothing(
    api: Api, body: bytes, status: int, code: str
) -> None:
    before = stored(api)
    problem(raw(api, body), status, code)
    assert stored(api) == before


def test_another_media_type_is_415(api: Api) -> None:
    for headers in ({}, {"Content-Type": "application/octet-stream"}):
        response = api.http.post("/v1/files", content=TEXT, headers=headers)
        problem(response, 415, "unsupported-media-type")
    headers = {"Content-Type": "multipart/form-data"}
    problem(api.http.post("/v1/files", content=TEXT, headers=headers), 400, "bad-request")


def test_a_client_that_goes_away_leaves_nothing(api: Api) -> None:
    before = stored(api)

    def half() -> Any:
        yield PART % b"file" + b"x" * 3_000_000
        eventually(lambda: stored(api) - before)
        raise ConnectionAbortedError

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with pytest.raises(ConnectionAbortedError):
        api.http.post("/v1/files", content=half(), headers=headers)
    eventually(lambda: stored(api) == before)


def test_a_file_over_the_limit_is_413_however_it_is_sent(api: Api) -> None:
    small = api.settings.model_copy(update={"max_file_bytes": 200_000})
    with serve(small) as limited:
        fits = upload(limited, b"x" * 200_000)
        assert fits["size"] == 200_000
        before = stored(limited)
        for size in (200_001, 5_000_000):
            files = {"file": ("a", b"x" * size)}
            found = problem(limited.http.post("/v1/files", files=files), 413, "payload-too-large")
            assert any(limit in found["detail"] for limit in ("200000", "265536"))

            def chunks(size: int = size) -> Any:
                yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
                yield b"x" * size
                yield b"\r\n--b--\r\n"

            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            chunked = limited.http.post("/v1/files", content=chunks(), headers=headers)
            problem(chunked, 413, "payload-too-large")
        assert stored(limited) == before
