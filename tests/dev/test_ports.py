import re
import socket
from collections.abc import Iterator

import pytest

from dev.errors import DevError
from dev.options import Options
from dev.ports import choose_port, free_port, is_free, is_open


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_can_be_bound() -> None:
    port = free_port()
    assert is_free(port)
    assert not is_open(port)


def test_a_free_port_is_none_that_an_outgoing_connection_gets() -> None:
    assert all(free_port() < 32768 for _ in range(20))


def test_a_port_that_somebody_listens_on_is_open_and_not_free(taken: int) -> None:
    assert not is_free(taken)
    assert is_open(taken)


def test_the_default_port_is_taken_when_it_is_free() -> None:
    port = free_port()
    assert choose_port(None, port, "LADING_PORT") == port


def test_a_busy_default_port_falls_back_to_a_free_one(taken: int) -> None:
    chosen = choose_port(None, taken, "LADING_PORT")
    assert chosen != taken
    assert is_free(chosen)


def test_a_default_port_that_was_handed_out_already_is_not_handed_out_again() -> None:
    port = free_port()
    assert choose_port(None, port, "LADING_PORT", taken=[port]) != port


def test_a_busy_explicit_port_is_an_error_that_names_the_variable(taken: int) -> None:
    with pytest.raises(DevError, match=f"LADING_PORT={taken} is taken"):
        choose_port(str(taken), 8000, "LADING_PORT")


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "8000 ", "٨٠"])
def test_what_is_no_port_is_an_error(value: str) -> None:
    with pytest.raises(DevError, match=re.escape(f"LADING_PORT={value} is no port")):
        choose_port(value, 8000, "LADING_PORT")


def test_options_say_which_default_they_could_not_have() -> None:
    explicit = free_port()
    options = Options.from_environment({"LADING_PORT": str(explicit)})
    assert options.port == explicit
    assert not [note for note in options.notes if "API" in note]
    with socket.create_server(("127.0.0.1", 5555)) if is_free(5555) else socket.socket():
        options = Options.from_environment({})
    assert options.flower_port != 5555
    assert f"Port 5555 is taken: Flower is on {options.flower_port}" in options.notes


def test_an_explicit_port_goes_before_another_ones_default() -> None:
    explicit = str(free_port())
    with pytest.raises(DevError, match=f"LADING_FLOWER_PORT={explicit} is taken"):
        Options.from_environment({"LADING_PORT": explicit, "LADING_FLOWER_PORT": explicit})


def test_a_host_that_is_not_this_machine_is_an_error_and_no_busy_port() -> None:
    with pytest.raises(DevError, match=r"Nothing can listen on 192\.0\.2\.1, port"):
        Options.from_environment({"LADING_HOST": "192.0.2.1"})


@pytest.mark.parametrize("value", ["0", "two", "-3"])
def test_a_concurrency_that_is_no_number_is_an_error(value: str) -> None:
    with pytest.raises(DevError, match=f"LADING_WORKER_CONCURRENCY={value}"):
        Options.from_environment({"LADING_WORKER_CONCURRENCY": value})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("localhost", "http://localhost:1"),
    ],
)
def test_the_url_is_one_that_a_browser_here_can_open(host: str, url: str) -> None:
    assert Options.from_environment({"LADING_HOST": host}).url_of(1) == url
