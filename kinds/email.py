"""email.send: a mail from text, HTML or a template, given to the mail server of the settings.

What can be wrong with a mail by itself is refused at the submission. After that the server's word
counts: 4xx and a broken connection are tried again, 5xx is for good. The job has succeeded when the
server took the mail for somebody; `refused` says in its words for whom it did not.

Those it took the mail for are remembered, so that trying again for the others (4xx) leaves them in
peace; on the last attempt such others end in `refused`. A mail may still be sent twice, when an
attempt dies between the server's yes and its report; its Message-ID is the same then.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
)

from jobs.settings import Settings, load_settings
from kinds.email_addresses import Mailbox, one_line, parse_mailbox
from lading import Fail, JobContext, StoredFile, job

if TYPE_CHECKING:
    from kinds.email_templates import Rendered

RECIPIENTS = 100  # in each of to, cc and bcc; what a server takes at least (RFC 5321 §4.5.3.1.8)
SUBJECT_LENGTH = 900  # characters; a line of a mail has at most 998 (RFC 5322 §2.1.1)
ATTACHMENTS = 50
ATTACHED_BYTES = 25 * 1024 * 1024  # of all together, before base64; what large providers take
# Above the 240 s of one conversation. Twelve attempts reach over an hour's outage on average: half
# of 5 + 10 + 20 … 2560 + 3600 s. So long takes grey-listing at most, too.
TIMEOUT, ATTEMPTS = timedelta(minutes=5), 12


def _address(text: str) -> str:
    parse_mailbox(text)
    return text


AddressText = Annotated[str, AfterValidator(_address), Field(max_length=500)]
Addresses = Annotated[list[AddressText], Field(max_length=RECIPIENTS)]


class EmailSendArgs(BaseModel):
    """A mail. Addresses are `ann@example.org` or `Ann <ann@example.org>`."""

    model_config = ConfigDict(
        extra="forbid",
        serialize_by_alias=True,
        json_schema_extra={
            "examples": [
                {"to": ["Ann <ann@example.org>"], "subject": "Hello", "text": "It works.\n"},
                {"to": ["ann@example.org"], "template": "welcome", "variables": {"name": "Ann"}},
            ]
        },
    )

    to: Annotated[Addresses, Field(min_length=1, description="At most 100, as in cc and bcc")]
    cc: Addresses = []
    bcc: Addresses = Field(default=[], description="Get the mail and are not named in it")
    reply_to: AddressText | None = Field(default=None, description="Else answers go to `from`")
    sender: AddressText | None = Field(
        default=None, alias="from", description="Else that of the settings"
    )
    template: str | None = Field(
        default=None,
        description="Name of a template, instead of text and html: `welcome`, or one of your own",
    )
    variables: dict[str, JsonValue] = Field(
        default={},
        validate_default=True,
        description="What the template uses; it must have all of them",
    )
    subject: Annotated[str, AfterValidator(one_line)] | None = Field(
        default=None,
        max_length=SUBJECT_LENGTH,
        validate_default=True,
        description="Needed without a template; replaces that of a template",
    )
    html: str | None = Field(default=None, description="Sent as it is")
    text: str | None = Field(
        default=None,
        validate_default=True,
        description="With html: the same for readers without HTML",
    )
    attachments: list[UUID] = Field(
        default=[],
        max_length=ATTACHMENTS,
        description="Ids of stored files, ≤ 25 MiB together; sent with their names and media types",
    )

    @field_validator("template")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and not _folder(name):
            raise ValueError("no template of that name")
        return name

    @field_validator("variables")
    @classmethod
    def _enough(cls, variables: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("template")
        if name is not None:
            _render(name, variables)
        elif variables and "template" in info.data:
            raise ValueError("variables are for a template, and there is none")
        return variables

    @field_validator("html", "text")
    @classmethod
    def _template_alone(cls, content: str | None, info: ValidationInfo) -> str | None:
        if content and info.data.get("template") is not None:
            raise ValueError("a template brings text and HTML of its own")
        return content

    @field_validator("text")
    @classmethod
    def _has_content(cls, text: str | None, info: ValidationInfo) -> str | None:
        missing = info.data.get("template", "") is None and not info.data.get("html", "html")
        if missing and not text:
            raise ValueError("text, html or template is needed")
        return text


class EmailSendResult(BaseModel):
    """Whom the mail server took it for. Addresses are as in the envelope, domains in ASCII."""

    message_id: str = Field(description="The Message-ID of the mail, angle brackets included")
    accepted: list[str] = Field(description="Each once")
    refused: dict[str, str] = Field(description="The server's words, by address")


@job("email.send", queue="io", timeout=TIMEOUT, max_attempts=ATTEMPTS)
def send(context: JobContext, args: EmailSendArgs) -> EmailSendResult:
    """Give the mail to the mail server."""
    from kinds.email_delivery import Parcel  # noqa: PLC0415 - smtplib: the api reads schemas only
    from kinds.email_letter import Letter, compose  # noqa: PLC0415
    from kinds.email_rounds import play_round  # noqa: PLC0415

    settings = load_settings()
    subject, text, html = _content(args)
    letter = Letter(
        job_id=context.job_id,
        sender=_sender(args, settings),
        to=_mailboxes(args.to),
        cc=_mailboxes(args.cc),
        bcc=_mailboxes(args.bcc),
        reply_to=parse_mailbox(args.reply_to) if args.reply_to else None,
        subject=subject,
        text=text,
        html=html,
        attachments=_attachments(context, args.attachments),
    )
    parcel = Parcel(compose(letter), letter.sender.address, letter.needs_smtputf8)
    delivery = play_round(context, parcel, letter.recipients, settings)
    return EmailSendResult(
        message_id=letter.message_id, accepted=delivery.accepted, refused=delivery.refused
    )


def _mailboxes(texts: Sequence[str]) -> list[Mailbox]:
    return [parse_mailbox(text) for text in texts]


def _sender(args: EmailSendArgs, settings: Settings) -> Mailbox:
    try:
        return parse_mailbox(args.sender or settings.mail_from)
    except ValueError as error:  # the args have been validated
        raise Fail(f"LADING_MAIL_FROM: {error}") from error


def _attachments(context: JobContext, file_ids: Sequence[UUID]) -> list[StoredFile]:
    files = [context.file(file_id) for file_id in file_ids]
    size = sum(file.size for file in files)
    if size > ATTACHED_BYTES:
        raise Fail(f"the attachments have {size} bytes together; {ATTACHED_BYTES} are allowed")
    return files


def _content(args: EmailSendArgs) -> tuple[str, str | None, str | None]:
    """Subject, text and HTML; an empty one is none."""
    if args.template is None:
        return args.subject or "", args.text or None, args.html or None
    rendered = _render(args.template, args.variables)
    return args.subject or rendered.subject, rendered.text, rendered.html


def _folder(template: str) -> Path | None:
    from kinds.email_templates import find_template  # noqa: PLC0415 - jinja2: most mails need none

    return find_template(template, load_settings().templates_dir)


def _render(template: str, variables: dict[str, Any]) -> "Rendered":
    """What the template makes of them; ValueError says what is in the way."""
    from kinds.email_templates import render  # noqa: PLC0415

    folder = _folder(template)
    if folder is None:
        raise ValueError(f"no template {template}")
    return render(folder, variables)
