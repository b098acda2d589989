"""The caught mails: one .eml as it came in, and beside it the envelope as .json."""

import email
import email.policy
import json
import secrets
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Envelope:
    """What SMTP said, which no header need repeat: blind copies are only here."""

    sender: str
    recipients: tuple[str, ...]
    at: str  #: RFC 3339, UTC


class Mailbox:
    """A folder of mails; what an earlier start has caught is in it, too. Ids sort by arrival."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, dict[str, Any]] = {}

    def add(self, sender: str, recipients: tuple[str, ...], content: bytes) -> str:
        """The id of the mail, which is whole on the disk now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mail_id = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        envelope = json.dumps(asdict(Envelope(sender, recipients, at)))
        (self.folder / f"{mail_id}.json").write_text(envelope)
        unfinished = self.folder / f".{mail_id}"
        unfinished.write_bytes(content)
        unfinished.rename(self.folder / f"{mail_id}.eml")
        return mail_id

    def list_mails(self) -> list[dict[str, Any]]:
        """All of them as the contract says, oldest first. Those removed by hand are gone."""
        ids = sorted(path.stem for path in self.folder.glob("*.eml"))
        self._read = {mail_id: self._read.get(mail_id) or self._load(mail_id) for mail_id in ids}
        return list(self._read.values())

    def find_source(self, mail_id: str) -> bytes | None:
        """The bytes as they came in."""
        path = self.folder / f"{mail_id}.eml"
        return path.read_bytes() if path.parent == self.folder and path.exists() else None

    def _load(self, mail_id: str) -> dict[str, Any]:
        path = self.folder / f"{mail_id}.eml"
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        envelope = _read_envelope(path, message)
        return {
            "id": mail_id,
            "from": str(message["from"] or envelope.sender),
            "to": list(envelope.recipients),
            "subject": str(message["subject"] or ""),
            "text": _body(message, "plain"),
            "html": _body(message, "html"),
            "message_id": str(message["message-id"] or "").strip() or None,
            "at": envelope.at,
        }


def _read_envelope(path: Path, message: EmailMessage) -> Envelope:
    """As it was kept; for a file that somebody has put there, as the headers tell."""
    try:
        kept = json.loads(path.with_suffix(".json").read_text())
        return Envelope(kept["sender"], tuple(kept["recipients"]), kept["at"])
    except (OSError, ValueError, KeyError):
        fields = [str(field) for name in ("to", "cc") for field in message.get_all(name, [])]
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
        recipients = tuple(address for _, address in getaddresses(fields))
        return Envelope(str(message["from"] or ""), recipients, at.replace("+00:00", "Z"))


def _body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    if part is None:
        return None
    try:
        return str(part.get_content()).replace("\r\n", "\n")
    except (LookupError, UnicodeError):  # a charset that nobody knows
        return bytes(part.get_payload(decode=True)).decode(errors="replace")
