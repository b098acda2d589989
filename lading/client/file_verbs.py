"""What can be asked of Lading about files: to keep one, and to give one back, whole."""

from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from lading.client.calling import call, read
from lading.client.errors import DamagedFile
from lading.client.exchange import Answer, Call, Fetch, Lost, Pause, Repeat, Request, Work
from lading.client.models import File
from lading.client.transfers import Sink, Upload, target_of
from lading.client.trying import Trying

FileRef = File | UUID | str

_STORING = 60.0  # seconds that the server may take to write down what it has received


class FileVerbs:
    """The verbs of files, with one patience: the seconds for which a call is sent again."""

    def __init__(self, patience: float) -> None:
        self.patience = patience

    def upload(self, upload: Upload) -> Call[File]:
        """The stored file. Sent again only if it was refused: else it would be stored twice."""
        request = Request(
            "POST",
            "/v1/files",
            upload=upload,
            extra_wait=_STORING,
            repeat=Repeat.IF_REFUSED,
        )
        return read(File, (yield from call(request, self.patience)))

    def get_file(self, file: FileRef) -> Call[File]:
        return read(File, (yield from call(Request("GET", _path_of(file)), self.patience)))

    def download(self, file: FileRef, path: Path | str | None) -> Call[Path]:
        """The file is at the returned path, whole, with the bytes that the server has stored.

        DamagedFile, FileExistsError and OSError; then nothing of it is left.
        """
        known = file if isinstance(file, File) else (yield from self.get_file(file))
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
        trying = Trying(self.patience)
        while True:
            headers = {"Accept-Encoding": "identity"}
            if sink.size:
                headers |= {"Range": f"bytes={sink.size}-", "If-Range": f'"{file.sha256}"'}
            request = Request("GET", f"{_path_of(file)}/content", headers=headers)
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


def _path_of(file: FileRef) -> str:
    file_id = file.id if isinstance(file, File) else file
    return f"/v1/files/{quote(str(file_id), safe='')}"
