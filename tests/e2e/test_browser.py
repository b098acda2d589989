"""lading.js and the example page in Chromium, through an API that dies and proxies that hinder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect, sync_playwright

from tests.conftest import ROOT
from tests.e2e.platform import Platform
from tests.eventually import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SLOW = 60_000  # ms; a busy machine
FOLLOW = """
async ([url, key, id]) => {
  const { Lading } = await import(`${url}/static/lading.js`);
  const lading = new Lading({ url, headers: async () => ({ Authorization: `Bearer ${key}` }) });
  window.seen = [];
  for await (const event of lading.job(id)) window.seen.push(event);
  return window.seen.map(({ seq, type }) => [seq, type]);
}
"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="there is no Chromium here"
)


@pytest.fixture(scope="module")
def site(platform: Platform, pages_port: int) -> Iterator[str]:
    """The example's own application."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", "docs/examples", "progress_app:app"]
    dev = platform.dev
    process = subprocess.Popen(
        [*command, "--port", str(pages_port), "--log-level", "warning"],
        cwd=ROOT,
        env={**os.environ, "LADING_URL": dev["api"], "LADING_API_KEY": dev["key"]},
    )
    url = f"http://127.0.0.1:{pages_port}"
    try:
        eventually(lambda: _answers(url), within=60)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{url}/where").status_code == 200
    return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(SLOW)
    page.goto(site)
    yield page
    page.close()


def history(platform: Platform, job_id: str) -> list[list[Any]]:
    with platform.client() as client:
        items = client.get(f"/v1/jobs/{job_id}/events").json()["items"]
    return [[item["seq"], item["type"]] for item in items]


def test_the_example_pages_bar_goes_on_while_the_api_dies(page: Page, platform: Platform) -> None:
    page.click("#start")
    page.wait_for_function("document.querySelector('#bar').value > 0.1")
    platform.kill("api")
    expect(page.locator("#state")).to_have_text("succeeded", timeout=SLOW)
    lines = page.eval_on_selector_all("#events li", "lines => lines.map((line) => line.value)")
    assert lines == [*range(1, len(lines) + 1)]
    assert page.eval_on_selector("#bar", "bar => bar.value") == 1
    expect(page.locator("#start")).to_be_enabled()


def test_a_click_before_the_example_page_is_ready_is_not_lost(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(SLOW)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/where", hold)
    page.goto(site)
    eventually(lambda: bool(page.evaluate("true") and held), within=30)
    expect(page.locator("#start")).to_be_disabled()
    held[0].continue_()
    page.click("#start")
    expect(page.locator("#events li").first).to_have_text("created", timeout=SLOW)
    page.close()


def test_the_example_page_cancels(page: Page) -> None:
    page.click("#start")
    page.wait_for_function("document.querySelector('#bar').value > 0")
    page.click("#cancel")
    expect(page.locator("#events li").last).to_have_text("cancelled", timeout=SLOW)


def test_jobs_are_followed_over_one_socket(page: Page, platform: Platform) -> None:
    dev = platform.dev
    ids = [platform.submit("demo.sleep", {"seconds": 1, "steps": 5})["id"] for _ in range(5)]
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    script = """
    async ([url, key, ids]) => {
      const { Lading } = await import(`${url}/static/lading.js`);
      const lading = new Lading({ url, headers: async () => ({ Authorization: `Bearer ${key}` }) });
      return Promise.all(ids.map(async (id) => {
        const seen = [];
        for await (const { seq, type } of lading.job(id)) seen.push([seq, type]);
        return seen;
      }));
    }
    """
    seen = page.evaluate(script, [dev["api"], dev["key"], ids])
    assert seen == [history(platform, job_id) for job_id in ids]
    assert len(sockets) == 1


def test_who_knows_all_of_a_job_that_has_ended_is_told_nothing(
    page: Page, platform: Platform
) -> None:
    dev = platform.dev
    job = platform.run("test.echo", {"value": 1})
    script = """
    async ([url, key, id, after]) => {
      const { Lading } = await import(`${url}/static/lading.js`);
      const lading = new Lading({ url, headers: async () => ({ Authorization: `Bearer ${key}` }) });
      for await (const event of lading.job(id, { after })) return event;
      return "nothing";
    }
    """
    assert page.evaluate(script, [dev["api"], dev["key"], job["id"], job["seq"]]) == "nothing"


def test_the_feed_of_all_jobs_is_followed(page: Page, platform: Platform) -> None:
    dev = platform.dev
    script = """
    async ([url, key, label]) => {
      const { Lading } = await import(`${url}/static/lading.js`);
      const lading = new Lading({ url, headers: async () => ({ Authorization: `Bearer ${key}` }) });
      window.types = [];
      for await (const { event } of lading.jobs({ filter: { label: { of: label } } })) {
        window.types.push(event.type);
        if (event.type === "succeeded") return window.types;
      }
    }
    """
    page.evaluate(f"window.found = ({script})({[dev['api'], dev['key'], 'browser']!r}); 0")
    labels = {"of": "browser"}

    def is_seen() -> bool:
        platform.run("test.echo", {"value": 1}, labels=labels)
        return bool(page.evaluate("window.types?.includes('succeeded') ?? false"))

    eventually(is_seen, within=30)
    assert page.evaluate("window.found")[-1] == "succeeded"


def test_events_are_followed_through_a_lost_socket(page: Page, platform: Platform) -> None:
    """Of some types, each once, and those of the time without a socket, too."""
    dev = platform.dev
    sockets: list[WebSocketRoute] = []

    def relay(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    page.route_web_socket("**/v1/ws", relay)
    script = """
    async ([url, key]) => {
      const { Lading } = await import(`${url}/static/lading.js`);
      const lading = new Lading({ url, headers: async () => ({ Authorization: `Bearer ${key}` }) });
      const filter = { type: ["page.*"] };
      window.seen = {};
      for await (const { event } of lading.events({ filter, after: "oldest" }))
        window.seen[event.id] = [event.event.type, event.event.data];
    }
    """
    page.evaluate(f"window.found = ({script})({[dev['api'], dev['key']]!r}); 0")

    def publish(type_: str, value: int) -> None:
        body = {"type": type_, "data": value}
        with platform.client() as client:
            assert client.post("/v1/events", json=body).status_code == 202

    def seen() -> list[Any]:
        found: list[Any] = page.evaluate("Object.values(window.seen ?? {})")
        return found

    publish("page.one", 1)
    publish("other.one", 2)
    eventually(lambda: seen() == [["page.one", 1]], within=30)
    sockets[-1].close(code=1001)
    publish("page.two", 3)
    eventually(lambda: seen() == [["page.one", 1], ["page.two", 3]], within=30)
    assert len(sockets) > 1


def test_without_a_socket_a_job_is_followed_by_sse(page: Page, platform: Platform) -> None:
    dev = platform.dev
    page.route_web_socket("**/v1/ws", lambda socket: socket.close(code=1001))
    job_id = platform.submit("demo.sleep", {"seconds": 4, "steps": 8})["id"]
    streamed: list[str] = []
    page.on("request", lambda sent: streamed.append(sent.headers.get("accept", "")))
    assert page.evaluate(FOLLOW, [dev["api"], dev["key"], job_id]) == history(platform, job_id)
    assert "text/event-stream" in streamed


def test_a_proxy_that_holds_streams_back_leaves_polling(page: Page, platform: Platform) -> None:
    dev = platform.dev
    held: list[Route] = []

    def hold(route: Route) -> None:
        """The stream's answer never comes."""
        if "text/event-stream" in route.request.headers.get("accept", ""):
            held.append(route)
        else:
            route.continue_()

    page.clock.install()
    page.route_web_socket("**/v1/ws", lambda socket: socket.close(code=1001))
    page.route("**/events*", hold)
    job_id = platform.run("test.echo", {"value": 1})["id"]
    page.evaluate(f"window.found = ({FOLLOW})({[dev['api'], dev['key'], job_id]!r}); 0")

    def is_held() -> bool:
        page.clock.fast_forward(500)  # ms: the pauses between two sockets
        return bool(held)

    def is_over() -> bool:
        page.clock.fast_forward(41_000)  # ms: the silence of a stream
        return bool(page.evaluate("window.seen?.at(-1)?.type === 'succeeded'"))

    eventually(is_held, within=30, every=0.2)
    eventually(is_over, within=30, every=0.2)
    assert page.evaluate("window.found") == history(platform, job_id)


def test_a_refusal_is_raised(page: Page, platform: Platform) -> None:
    dev = platform.dev
    script = f"""
    async (args) => {{
      try {{ await ({FOLLOW})(args); }} catch (error) {{ return [error.name, error.status]; }}
    }}
    """
    missing = "00000000-0000-7000-8000-000000000000"
    _, status = page.evaluate(script, [dev["api"], dev["key"], missing])
    assert status == 404
    _, status = page.evaluate(script, [dev["api"], "lad_wrong", missing])
    assert status == 401
