"""The bench of streams, with few sockets and the floor in the API's place."""

from bench.stream_readers import Address
from bench.stream_servers import Servers, floor
from bench.streams import EVENTS, FLOOR, each_its_own
from jobs.settings import Settings


def test_the_floor_brings_each_event_to_the_socket_that_follows_its_job(settings: Settings) -> None:
    with floor(Servers(settings, Address(0, "not asked for"), {})) as running:
        phase = each_its_own(running, 10, 100, name=FLOOR, idle=0.1)
    assert (phase.delivered, phase.missing, phase.repeated) == (10 * EVENTS, 0, 0)
    assert phase.cpu_us_per_delivered["api"] > 0
