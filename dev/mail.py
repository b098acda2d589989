"""The mail catcher of `make dev`: an SMTP server that keeps every mail, and a page that shows them.

    python -m dev.mail --smtp-port 1025 --http-port 8025 --dir .lading/mail

`GET /messages` is the contract's; `/messages/{id}` is the mail's source, `/` a page for people.
"""

import argparse
import asyncio
import json
import signal
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from aiosmtpd.smtp import SMTP, Session
from aiosmtpd.smtp import Envelope as SmtpEnvelope

from dev.mailbox import Mailbox
from dev.ports import LOOPBACK

MAX_MAIL_BYTES = 50 * 1024 * 1024  # attachments in base64 included

_PAGE = """<!doctype html>
<meta charset="utf-8"><title>Mail caught by Lading</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }}
  summary {{ cursor: pointer }} time {{ color: #666 }} pre {{ white-space: pre-wrap }}
  iframe {{ width: 100%; height: 24rem; border: 1px solid #ccc }}
</style>
<h1>Mail</h1>
<p>{count} caught. Nothing leaves this machine. As JSON: <a href="/messages">/messages</a></p>
{mails}
"""
_MAIL = """<details><summary><b>{subject}</b> from {from} to {to} <time>{at}</time></summary>
{body}<p><a href="/messages/{id}">Source</a></p></details>
"""


class Catcher:
    """Takes every mail of every sender; aiosmtpd calls it."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: SmtpEnvelope
    ) -> str:
        content = envelope.original_content or b""
        recipients = tuple(envelope.rcpt_tos)
        mail_id = await asyncio.to_thread(
            self._mailbox.add, envelope.mail_from or "", recipients, content
        )
        return f"250 OK kept as {mail_id}"


class Pages(BaseHTTPRequestHandler):
    """GET and HEAD only: a caught mail is removed by removing its files."""

    protocol_version = "HTTP/1.1"

    def __init__(self, mailbox: Mailbox, *request: Any) -> None:
        self._mailbox = mailbox
        super().__init__(*request)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            self._answer("text/html", render_page(self._mailbox.list_mails()).encode())
        elif path == "/messages":
            self._answer("application/json", json.dumps(self._mailbox.list_mails()).encode())
        elif source := self._mailbox.find_source(path.removeprefix("/messages/")):
            self._answer("text/plain", source)
        else:
            self._answer("text/plain", b"no such page\n", HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Nothing: who looks at the page is not worth a line."""

    def _answer(self, kind: str, body: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def render_page(mails: list[dict[str, Any]]) -> str:
    """Newest first. HTML mails are shown in a frame that may neither run nor load anything."""
    return _PAGE.format(
        count=f"{len(mails)} mail{'' if len(mails) == 1 else 's'}",
        mails="".join(_render_mail(mail) for mail in reversed(mails)),
    )


def _render_mail(mail: dict[str, Any]) -> str:
    text = f"<pre>{escape(mail['text'])}</pre>" if mail["text"] else ""
    frame = f'<iframe sandbox srcdoc="{escape(mail["html"])}"></iframe>' if mail["html"] else ""
    shown = {
        "id": mail["id"],
        "subject": mail["subject"] or "(no subject)",
        "from": mail["from"],
        "to": ", ".join(mail["to"]),
        "at": mail["at"],
    }
    return _MAIL.format_map(
        {name: escape(value) for name, value in shown.items()} | {"body": frame or text}
    )


async def serve(folder: Path, host: str, smtp_port: int, http_port: int) -> None:
    """Both servers, until SIGTERM or SIGINT."""
    mailbox = Mailbox(folder)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    make_session = partial(
        SMTP,
        Catcher(mailbox),
        data_size_limit=MAX_MAIL_BYTES,
        enable_SMTPUTF8=True,
        hostname="mail.lading.localhost",
    )
    smtp = await loop.create_server(make_session, host, smtp_port)
    http = ThreadingHTTPServer((host, http_port), partial(Pages, mailbox))
    Thread(target=http.serve_forever, name="http", daemon=True).start()
    await stop.wait()
    smtp.close()
    http.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.mail", description=__doc__)
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    given = parser.parse_args()
    asyncio.run(serve(given.dir, given.host, given.smtp_port, given.http_port))


if __name__ == "__main__":
    main()
