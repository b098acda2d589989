"""The bytes of a file over HTTP: whole or a range (RFC 9110 §14), and never run by a browser."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import quote

import anyio
from starlette.responses import Response, StreamingResponse

from api.preconditions import matches
from api.problems import Problem
from jobs.files import FileView

CHUNK = 256 * 1024  # bytes a read, which is a trip to a thread
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def content_response(file: FileView, path: Path, headers: Mapping[str, str]) -> Response:
    """The answer to these request headers. Several ranges at once are answered with the whole.

    Problem 416 when the range begins behind the end.
    """
    tag = f'"{file.sha256}"'
    answer = {
        "Content-Type": file.media_type,
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(file.name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-cache",
    }
    if matches(headers.get("if-none-match"), tag):
        return Response(status_code=304, headers={"ETag": tag})
    wanted = headers.get("range") if headers.get("if-range", tag) == tag else None
    part = _range(wanted, file.size) if wanted else None
    start, end = part or (0, file.size)
    if part:
        answer["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    answer["Content-Length"] = str(end - start)
    return StreamingResponse(_read(path, start, end), 206 if part else 200, answer)


def disposition(name: str) -> str:
    """Content-Disposition that saves the file under its name, whatever is in it (RFC 6266, 8187).

    Old clients get the name in ASCII.
    """
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _range(wanted: str, size: int) -> tuple[int, int] | None:
    """From, up to but not including; None, the whole, when the header is not understood."""
    found = _RANGE.fullmatch(wanted.strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if first and last and int(first) > int(last):
        return None
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        headers = {"Content-Range": f"bytes */{size}"}
        raise Problem("range-not-satisfiable", f"The file has {size} bytes.", headers=headers)
    return start, end


async def _read(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(start)
        while start < end:
            chunk = await file.read(min(CHUNK, end - start))
            if not chunk:
                return  # the file is shorter than its row says; the client sees a broken body
            start += len(chunk)
            yield chunk
