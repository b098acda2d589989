"""What can be asked of Lading about files: to keep one, and to give one back, whole."""

from pathlib import Path
from uuid import UUID

from lading.client.asking import Asking, place
from lading.client.calling import call, read
from lading.client.errors import DamagedFile
from lading.client.exchange import Answer, Call, Fetch, Lost, Pause, Repeat, Request, Work
from lading.client.models import File
from lading.client.transfers import Sink, Upload, target_of
from lading.client.trying import Trying
from lading.client.verb import verb

FileRef = File | UUID | str

_STORING = 60.0  # seconds that the server may take to write down what it has received


class FileVerbs(Asking):
    """Files: stored, described, fetched, deleted."""

    @verb
    def upload(
        self,
        source: Path | str | bytes,
        *,
        name: str | None = None,
        media_type: str | None = None,
    ) -> Call[File]:
        """The stored file: what is at that path, or these bytes.

        Sent again only if it was refused: else it would be stored twice.
        """
        upload = Upload.of(source, name, media_type)
        request = Request(
            "POST",
            "/v1/files",
            upload=upload,
            extra_wait=_STORING,
            repeat=Repeat.IF_REFUSED,
        )
        return read(File, (yield from call(request, self._patience)))

    @verb
    def get_file(self, file: FileRef) -> Call[File]:
        """What is known of a stored file."""
        return self._ask(File, place("files", file))

    @verb
    def delete_file(self, file: FileRef) -> Call[None]:
        """It is gone."""
        return self._remove(place("files", file))

    @verb
    def download(self, file: FileRef, path: Path | str | None = None) -> Call[Path]:
        """Where the file is now: at `path`, or under its own name in that or the current folder.

        It appears there at once, whole, with the right SHA-256, or not at all: DamagedFile,
        FileExistsError, OSError.
        """
        known = file
        if not isinstance(known, File):
            known = yield from self._ask(File, place("files", file))
        target: Path = yield Work(lambda: target_of(path, known.name))
        sink = Sink(target)
        try:
            yield from self._fetch(known, sink)
            if (sink.size, sink.sha256) != (known.size, known.sha256):
                raise DamagedFile(
                    f"file {known.id} has arrived with {sink.size} bytes and sha256 {sink.sha256},"
                    f" and should have {known.size} and {known.sha256}"
                )
            kept: Path = yield Work(sink.keep)
            return kept
        finally:
            sink.discard()

    def _fetch(self, file: File, sink: Sink) -> Call[None]:
        """All of its bytes; a connection that breaks is gone on with where it broke."""
        trying = Trying(self._patience)
        while True:
            headers = {"Accept-Encoding": "identity"}
            if sink.size:
                headers |= {"Range": f"bytes={sink.size}-", "If-Range": f'"{file.sha256}"'}
            request = Request("GET", place("files", file, "content"), headers=headers)
            before = sink.size
            reply: Answer | Lost = yield Fetch(request, sink)
            if isinstance(reply, Answer) and (reply.is_success or _is_all_here(reply, file, sink)):
                return
            if sink.size > before:
                trying.succeeded()
            yield Pause(trying.pause_after(request, reply))


def _is_all_here(reply: Answer, file: File, sink: Sink) -> bool:
    """416: the connection broke behind the last byte."""
    return reply.status == 416 and sink.size == file.size  # noqa: PLR2004
