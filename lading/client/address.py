"""Where Lading is and which key opens it: said in the call, the environment, or by `make dev`."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from lading.client.errors import NotConfigured

URL, API_KEY, DATA_DIR = "LADING_URL", "LADING_API_KEY", "LADING_DATA_DIR"


class Address(NamedTuple):
    """A server, and the key for it."""

    url: str
    api_key: str | None


def find_address(url: str | None = None, api_key: str | None = None) -> Address:
    """What is given, else LADING_URL and LADING_API_KEY, else what runs here by `make dev`.

    Its dev.json is looked for in LADING_DATA_DIR, then in `.lading` of the current folder and of
    each one above. Its key is sent to no other server. NotConfigured when there is none;
    ValueError when the URL is not one of HTTP.
    """
    url = url or os.environ.get(URL)
    api_key = api_key or os.environ.get(API_KEY)
    if url is None or api_key is None:
        dev = _running_here()
        if url is None and dev is None:
            raise NotConfigured(
                f"set {URL} and {API_KEY}, or start Lading here with `make dev`:"
                " there is no .lading/dev.json in this folder or above it"
            )
        if dev is not None and (url is None or url.rstrip("/") == dev.url.rstrip("/")):
            url, api_key = url or dev.url, api_key or dev.api_key
    assert url is not None
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError(f"no URL of an HTTP server: {url!r}")
    return Address(url.rstrip("/"), api_key.strip() if api_key else None)


def _running_here() -> Address | None:
    for path in _records():
        try:
            # Of somebody else it could lead anywhere; root in a container sees its users' files.
            if os.name == "posix" and path.stat().st_uid not in {os.geteuid(), 0} and os.geteuid():
                continue
            record = json.loads(path.read_bytes())
            return Address(str(record["api"]), str(record["key"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _records() -> Iterator[Path]:
    if os.environ.get(DATA_DIR):
        yield Path(os.environ[DATA_DIR]) / "dev.json"
    here = Path.cwd()
    for folder in (here, *here.parents):
        yield folder / ".lading/dev.json"
