"""A real SMTP server on a port of its own, with the moods that mail servers have."""

# ruff: noqa: ARG002, N802 - the names and arguments are aiosmtpd's

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

LOGIN = LoginPassword(b"lading", b"open sesame")

SILENCE = "…"  # for a reply that does not come


@dataclass
class Mailbag:
    """What the server took, and what it answers where that is not its usual 250."""

    port: int = 0
    mails: list[Envelope] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)  #: by recipient, MAIL, DATA or QUIT
    drop_after_data: bool = False

    def parsed(self, number: int = -1) -> EmailMessage:
        message = message_from_bytes(self.content(number), policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message

    def content(self, number: int = -1) -> bytes:
        content = self.mails[number].original_content
        assert isinstance(content, bytes)
        return content

    async def handle_MAIL(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.sessions.append(session)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.replies.get("MAIL", "250 OK")

    async def handle_RCPT(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.replies.get(address, "250 OK")
        if reply == SILENCE:
            await asyncio.sleep(30)  # longer than any test; the end of the server ends it
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        reply = self.replies.get("DATA", "250 2.0.0 queued as 4711")
        if reply.startswith("2"):
            self.mails.append(envelope)
        if self.drop_after_data:
            server.transport.abort()
        return reply

    async def handle_QUIT(self, server: Any, session: Session, envelope: Envelope) -> str:
        return self.replies.get("QUIT", "221 Bye")


def _authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
    return AuthResult(success=data == LOGIN, handled=data == LOGIN)


@contextmanager
def mail_server(
    *,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    login: bool = False,
    smtputf8: bool = True,
) -> Iterator[Mailbag]:
    """It listens until the end of the block, in a thread of its own."""
    bag, loop = Mailbag(), asyncio.new_event_loop()

    def protocol() -> SMTP:
        return SMTP(
            bag,
            loop=loop,
            enable_SMTPUTF8=smtputf8,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=_authenticate if login else None,
            auth_required=login,
            auth_require_tls=False,
        )

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    listening = loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    server = asyncio.run_coroutine_threadsafe(listening, loop).result(30)
    bag.port = server.sockets[0].getsockname()[1]
    try:
        yield bag
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
