from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID, uuid4

from kinds.email import send
from lading import Fail
from lading.testing import run
from tests.kinds.conftest import Configure
from tests.kinds.mail_server import Mailbag

HELLO = {"to": ["ann@example.org"], "subject": "Hello", "text": "It works.\n"}


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    content = body.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


def decoded(server: Mailbag, header: str) -> str:
    """By the older parser: the newer one of 3.11 leaves a space between two encoded words."""
    raw = message_from_bytes(server.content())[header]
    return str(make_header(decode_header(raw.replace("\r\n", ""))))


def test_a_plain_mail_arrives_with_these_bytes(server: Mailbag) -> None:
    job_id = UUID("0198c0de-0000-7000-8000-000000000001")
    record = run(send, HELLO, job_id=job_id)
    message_id = "<0198c0de-0000-7000-8000-000000000001@lading.test>"
    assert record.error is None
    assert record.result == {
        "message_id": message_id,
        "accepted": ["ann@example.org"],
        "refused": {},
    }
    lines = server.content().split(b"\r\n")
    assert [line for line in lines if not line.startswith(b"Date: ")] == [
        b'From: "Lading" <box@lading.test>',
        b"To: ann@example.org",
        b"Subject: Hello",
        f"Message-ID: {message_id}".encode(),
        b'Content-Type: text/plain; charset="utf-8"',
        b"Content-Transfer-Encoding: 7bit",
        b"MIME-Version: 1.0",
        b"",
        b"It works.",
        b"",
    ]
    assert len([line for line in lines if line.startswith(b"Date: ")]) == 1
    assert (server.mails[0].mail_from, server.mails[0].rcpt_tos) == (
        "box@lading.test",
        ["ann@example.org"],
    )
    (log,) = record.logs
    assert log[2]["reply"] == "250 2.0.0 queued as 4711"


def test_the_message_id_is_the_same_on_every_attempt(server: Mailbag) -> None:
    job_id = uuid4()
    runs = [run(send, HELLO, job_id=job_id, attempt=n, failures=n - 1) for n in (1, 2)]
    assert len(server.mails) == 2
    assert {record.result["message_id"] for record in runs} == {f"<{job_id}@lading.test>"}
    assert {server.parsed(n)["Message-ID"] for n in (0, 1)} == {f"<{job_id}@lading.test>"}


def test_names_and_all_letters_of_the_world_arrive(server: Mailbag) -> None:
    record = run(
        send,
        {
            "to": ["Jürgen Groß, Köln <jg@example.org>", '"Doe, \\"Ann\\"" <ann@bücher.example>'],
            "cc": ["Ünï Cödé with a rather long name that must be folded <u@example.org>"],
            "from": "Größe <g@example.org>",
            "reply_to": "Antwort <r@example.org>",
            "subject": "Grüße aus Köln: ✓ 日本語 " + "lang " * 40,
            "text": "Zeile eins ✓\n.\n..zwei\n" + "x" * 2000,
        },
    )
    assert record.error is None
    message = server.parsed()
    assert [(to.display_name, to.addr_spec) for to in message["To"].addresses] == [
        ("Jürgen Groß, Köln", "jg@example.org"),
        ('Doe, "Ann"', "ann@xn--bcher-kva.example"),
    ]
    assert "Ünï Cödé with a rather long name that must be folded" in decoded(server, "Cc")
    assert (str(message["From"]), str(message["Reply-To"])) == (
        "Größe <g@example.org>",
        "Antwort <r@example.org>",
    )
    assert str(message["Subject"]).rstrip() == ("Grüße aus Köln: ✓ 日本語 " + "lang " * 40).rstrip()
    assert part(message, "plain") == "Zeile eins ✓\n.\n..zwei\n" + "x" * 2000 + "\n"
    assert server.content().isascii()
    assert max(map(len, server.content().split(b"\r\n"))) <= 998
    assert record.result["accepted"] == [
        "jg@example.org",
        "ann@xn--bcher-kva.example",
        "u@example.org",
    ]


def test_text_and_html_are_alternatives_and_files_are_attached(
    server: Mailbag, tmp_path: Path
) -> None:
    report, data = tmp_path / "Übersicht März.csv", bytes(range(256)) * 10
    report.write_bytes(data)
    file_id = uuid4()
    run(send, {**HELLO, "html": "<p>It works.</p>", "attachments": [str(file_id)]},
        files={file_id: report})  # fmt: skip
    message = server.parsed()
    assert message.get_content_type() == "multipart/mixed"
    assert [each.get_content_type() for each in message.iter_parts()] == [
        "multipart/alternative",
        "application/octet-stream",
    ]
    assert (part(message, "plain"), part(message, "html")) == (
        "It works.\n",
        "<p>It works.</p>\n",
    )
    (attachment,) = message.iter_attachments()
    assert attachment.get_filename() == "Übersicht März.csv"
    assert attachment.get_payload(decode=True) == data


def test_html_may_stand_alone(server: Mailbag) -> None:
    run(send, {"to": ["ann@example.org"], "subject": "Hello", "html": "<p>It works.</p>"})
    assert server.parsed().get_content_type() == "text/html"


def test_bcc_is_in_the_envelope_alone_and_nobody_gets_two(server: Mailbag) -> None:
    both = {"cc": ["ann@example.org"], "bcc": ["Spy <spy@example.org>", "ann@example.org"]}
    record = run(send, {**HELLO, **both})
    assert server.mails[0].rcpt_tos == ["ann@example.org", "spy@example.org"]
    assert record.result["accepted"] == ["ann@example.org", "spy@example.org"]
    assert b"spy" not in server.content().lower()
    assert b"\nbcc:" not in server.content().lower()


def test_the_welcome_template_brings_its_subject_and_escapes(server: Mailbag) -> None:
    variables = {"name": "<b>Ann & Bob</b>", "product": "Lading"}
    to = {"to": ["ann@example.org"]}
    assert run(send, {**to, "template": "welcome", "variables": variables}).error is None
    message = server.parsed()
    assert message["Subject"] == "Welcome, <b>Ann & Bob</b>"
    assert "Hello <b>Ann & Bob</b>,\n\nwelcome to Lading." in part(message, "plain")
    assert "<p>Hello &lt;b&gt;Ann &amp; Bob&lt;/b&gt;,</p>" in part(message, "html")
    assert "<b>" not in part(message, "html")


def test_a_subject_beside_a_template_replaces_its_own(server: Mailbag) -> None:
    template = {"template": "welcome", "variables": {"name": "Ann"}, "subject": "Hi"}
    run(send, {"to": ["ann@example.org"], **template})
    assert server.parsed()["Subject"] == "Hi"


def test_a_line_break_in_a_variable_makes_no_header(server: Mailbag) -> None:
    variables = {"name": "Ann\r\nBcc: spy@example.org\r\n\r\nboo"}
    run(send, {"to": ["ann@example.org"], "template": "welcome", "variables": variables})
    assert server.parsed()["Subject"] == "Welcome, Ann Bcc: spy@example.org boo"
    assert server.parsed()["Bcc"] is None


def test_operators_bring_templates_of_their_own(
    server: Mailbag, configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "layout.html").write_text("<main>{% block content %}{% endblock %}</main>")
    (folder := tmp_path / "invoice").mkdir()
    (folder / "subject.txt").write_text("Invoice {{ number }}\n")
    (folder / "body.html").write_text(
        '{% extends "layout.html" %}{% block content %}{{ number }}{% endblock %}'
    )
    configure(templates_dir=tmp_path)
    args = {"to": ["ann@example.org"], "template": "invoice", "variables": {"number": "<7>"}}
    assert run(send, args).error is None
    assert server.parsed()["Subject"] == "Invoice <7>"
    assert part(server.parsed(), "html") == "<main>&lt;7&gt;</main>\n"


def test_a_subject_of_quotes_and_marks_is_what_it_was(server: Mailbag) -> None:
    for subject in ('"quoted" <b> 100%', "=?utf-8?q?not_encoded?=", "  spaces  in  it"):
        run(send, {**HELLO, "subject": subject})
        assert str(server.parsed()["Subject"]).strip() == subject.strip()


def test_too_much_attached_fails_before_anything_is_sent(server: Mailbag, tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    with (tmp_path / "large").open("r+b") as large:
        large.truncate(26 * 1024 * 1024)
    file_id = uuid4()
    record = run(send, {**HELLO, "attachments": [file_id]}, files={file_id: tmp_path / "large"})
    assert isinstance(record.error, Fail)
    assert server.sessions == []


def test_an_unknown_file_fails(server: Mailbag) -> None:
    record = run(send, {**HELLO, "attachments": [str(uuid4())]})
    assert isinstance(record.error, Fail)
    assert server.sessions == []


def test_a_cancelled_job_sends_nothing(server: Mailbag) -> None:
    record = run(send, HELLO, cancelled=True)
    assert (record.outcome, server.sessions) == ("cancelled", [])


def test_a_broken_default_sender_is_named(server: Mailbag, configure: Configure) -> None:
    configure(mail_from="nobody")
    record = run(send, HELLO)
    assert isinstance(record.error, Fail)
    assert str(record.error).startswith("LADING_MAIL_FROM: ")
