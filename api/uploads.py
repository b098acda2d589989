"""A file out of a form, streamed to the disk: however large it is, one block of it is in memory."""

import re
from typing import NamedTuple

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from api.errors import body_flaw
from api.problems import Problem
from jobs.files import FileStore, StoredBytes

BLOCK = 1024 * 1024  # bytes that are hashed and written at a time, in a thread
FIELD = "file"
LONGEST_NAME = 255  # characters
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_UNKNOWN_TYPE = "application/octet-stream"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Upload(NamedTuple):
    """What came, and what the client calls it."""

    stored: StoredBytes
    name: str
    media_type: str


async def receive_upload(request: Request, store: FileStore, max_bytes: int) -> Upload:
    """The form's file is on the disk. Problem 400, 413, 415 or 422; then nothing of it is left."""
    form = _Form(_boundary(request))
    with store.receive() as incoming:
        block = bytearray()
        try:
            async for chunk in request.stream():
                block += form.feed(chunk)
                if incoming.size + len(block) > max_bytes:
                    detail = f"The file is longer than {max_bytes} bytes."
                    raise Problem("payload-too-large", detail)
                if len(block) >= BLOCK:
                    await to_thread.run_sync(incoming.write, bytes(block))
                    block.clear()
        except ClientDisconnect:
            raise _broken() from None
        name, media_type = form.end()
        await to_thread.run_sync(incoming.write, bytes(block))
        return Upload(await to_thread.run_sync(incoming.keep), name, media_type)


class _Form:
    """The one part of a multipart/form-data body (RFC 7578) that is wanted here."""

    def __init__(self, boundary: bytes) -> None:
        self._name: str | None = None
        self._media_type = _UNKNOWN_TYPE
        self._ended = False
        self._field, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._found = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> bytes:
        """The file's bytes in this piece of the body."""
        self._found.clear()
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _broken() from None
        return bytes(self._found)

    def end(self) -> tuple[str, str]:
        """The file's name and media type; the body was whole."""
        if not self._ended:
            raise _broken()
        if self._name is None:
            raise body_flaw(f"#/{FIELD}", "Field required: a file")
        return self._name, self._media_type

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        field = _text(options.get(b"name", b""))
        if field != FIELD:
            raise body_flaw(f"#/{field}", f"Extra field: the form has just `{FIELD}`")
        if self._name is not None:
            raise body_flaw(f"#/{FIELD}", "There is more than one file")
        if b"filename" not in options:
            raise body_flaw(f"#/{FIELD}", "Input should be a file, with a filename")
        self._name = _safe_name(_text(options[b"filename"]))
        said, _ = parse_options_header(self._headers.get(b"content-type"))
        media_type = said.decode("latin-1").lower()
        self._media_type = media_type if _MEDIA_TYPE.fullmatch(media_type) else _UNKNOWN_TYPE
        self._headers = {}

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._found += data[start:end]

    def _on_end(self) -> None:
        self._ended = True


def _boundary(request: Request) -> bytes:
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data":
        detail = "The body's Content-Type must be multipart/form-data."
        raise Problem("unsupported-media-type", detail)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:  # noqa: PLR2004 - RFC 2046 §5.1.1
        raise _broken()
    return boundary


def _broken() -> Problem:
    return Problem("bad-request", "The body is no whole multipart/form-data document.")


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _safe_name(name: str) -> str:
    """The name without folders and control characters; it is shown, and never a path."""
    last = re.split(r"[/\\]", _CONTROLS.sub("", name))[-1].strip()[-LONGEST_NAME:]
    return last if last.strip(".") else FIELD
