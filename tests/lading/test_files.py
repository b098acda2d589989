"""Files to the server and back, through connections that break."""

import hashlib
import random
from pathlib import Path
from uuid import UUID

import anyio
import pytest

from lading import AsyncClient, Client, DamagedFile, NotFound, Unreachable
from tests.api.serving import Api
from tests.lading.gateway import Canned, cutting, gateway

CONTENT = random.Random(4).randbytes(700_000)


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_back_as_it_went(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "täble.csv"
    source.write_bytes(CONTENT)
    file = client.upload(source)
    assert (file.name, file.size, file.media_type) == ("täble.csv", len(CONTENT), "text/csv")
    assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()
    target = tmp_path / "there"
    assert client.download(file.id, target) == target
    assert target.read_bytes() == CONTENT
    assert left_behind(tmp_path) == ["there", "täble.csv"]


def test_bytes_are_a_file_as_well(client: Client, tmp_path: Path) -> None:
    file = client.upload(b"", name="empty.bin", media_type="application/x-empty")
    assert (file.name, file.size, file.media_type) == ("empty.bin", 0, "application/x-empty")
    assert client.download(file, tmp_path).read_bytes() == b""
    assert left_behind(tmp_path) == ["empty.bin"]


def test_a_name_that_nobody_chose_overwrites_nothing(client: Client, tmp_path: Path) -> None:
    file = client.upload(b"new", name="notes.txt")
    old = tmp_path / "notes.txt"
    old.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        client.download(file, tmp_path)
    assert old.read_bytes() == b"old"
    client.download(file, old)
    assert old.read_bytes() == b"new"
    assert left_behind(tmp_path) == ["notes.txt"]


def test_a_download_goes_on_where_it_was_cut(api: Api, tmp_path: Path) -> None:
    port = int(api.url.rpartition(":")[2])
    with Client(api.url, api.key) as client:
        file = client.upload(CONTENT, name="big")
    with cutting(port, iter([250_000, 300_000])) as between:
        with Client(f"http://127.0.0.1:{between.port}", api.key) as client:
            path = client.download(file, tmp_path)
        assert between.cuts == 2
    assert path.read_bytes() == CONTENT
    assert left_behind(tmp_path) == ["big"]


def test_a_cut_async_download_goes_on_as_well(api: Api, tmp_path: Path) -> None:
    port = int(api.url.rpartition(":")[2])

    async def there_and_back(url: str) -> Path:
        async with AsyncClient(url, api.key) as client:
            file = await client.upload(CONTENT, name="big")
            between.cut()  # what is kept alive
            between.budgets = iter([250_000])
            return await client.download(file, tmp_path)

    with cutting(port) as between:
        path = anyio.run(there_and_back, f"http://127.0.0.1:{between.port}")
        assert between.cuts == 2
    assert path.read_bytes() == CONTENT


def test_a_file_that_arrives_damaged_is_not_kept(api: Api, tmp_path: Path) -> None:
    with gateway(api.url) as between, Client(between.url, api.key) as client:
        file = client.upload(b"right", name="x")
        between.next.append(Canned(200, {}, b"wrong"))
        target = tmp_path / "x"
        target.write_bytes(b"old")
        with pytest.raises(DamagedFile, match="sha256"):
            client.download(file, target)
        assert target.read_bytes() == b"old"
        assert left_behind(tmp_path) == ["x"]


def test_a_download_that_is_given_up_leaves_nothing(api: Api, tmp_path: Path) -> None:
    port = int(api.url.rpartition(":")[2])
    with Client(api.url, api.key) as client:
        file = client.upload(CONTENT, name="big")
    with (
        cutting(port, iter([250_000])) as between,
        Client(f"http://127.0.0.1:{between.port}", api.key, patience=0) as client,
        pytest.raises(Unreachable),
    ):
        client.download(file, tmp_path)
    assert left_behind(tmp_path) == []


def test_what_is_not_there_is_said(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "nothing")
    with pytest.raises(NotFound):
        client.download(UUID(int=1), tmp_path)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "..", "a\\b", ".part"])
def test_a_servers_name_stays_in_the_folder(api: Api, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with Client(api.url, api.key) as client:
        file = client.upload(b"x", name="x").model_copy(update={"name": name})
        path = client.download(file, folder)
    assert path.parent == folder
    assert left_behind(tmp_path) == ["folder"]
