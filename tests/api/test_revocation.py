"""A key that is deleted, or expires, ends what it has opened: streams, sockets and long polls."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from api import revocation
from jobs.settings import Settings
from tests.api.listening import event_stream, frames, sent, web_socket
from tests.api.serving import Api, serve
from tests.api.speaking import speaking
from tests.api.stories import Story
from tests.eventually import eventually

END = {
    "deleted": "DELETE FROM api_key WHERE id = :id",
    "expired": "UPDATE api_key SET expires_at = clock_timestamp() WHERE id = :id",
}


@pytest.mark.parametrize("end", END)
def test_a_key_that_has_gone_ends_what_it_has_opened(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(revocation, "CHECK_EVERY", 0.1)
    job_id = Story(engine).begin()
    with serve(settings) as api, ThreadPoolExecutor(2) as pool:
        made = api.http.post("/v1/keys", json={"name": "page"}).json()
        headers = {"Authorization": f"Bearer {made['key']}"}
        polls = [pool.submit(partial(poll, api, job_id, headers, more)) for more in ({}, KNOWN)]
        with (
            speaking(api, headers=headers) as many,
            web_socket(api, str(job_id), headers=headers) as simple,
            event_stream(api, str(job_id), None, **headers) as stream,
            event_stream(api, str(job_id)) as other,
            speaking(api) as neighbour,
        ):
            many.follow(job_id)
            eventually(lambda: len(api.parts.revocation) == 7, within=30)
            with engine.begin() as connection:
                connection.execute(text(END[end]), {"id": made["id"]})
            events, code = many.rest()
            assert (len(events), code) == (1, 4401)
            assert frames(simple)[1] == 4401
            assert [each.event for each in sent(stream)] == ["created"]
            assert [each.result(30) for each in polls] == [401, 401]
            eventually(lambda: len(api.parts.revocation) == 2, within=30)
            assert neighbour.is_silent()
            assert not other.is_closed
        eventually(lambda: len(api.parts.revocation) == 0, within=30)


KNOWN = {"If-None-Match": '"1"'}


def poll(api: Api, job_id: UUID, headers: dict[str, str], more: dict[str, str]) -> int:
    """The status of a long poll that has nothing to wait for."""
    response = api.http.get(f"/v1/jobs/{job_id}?wait=30", headers={**headers, **more}, timeout=40)
    return response.status_code


def test_keys_are_looked_at_often_enough() -> None:
    assert revocation.CHECK_EVERY + 5 < 30, "and a query takes five seconds at most"
