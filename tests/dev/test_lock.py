import re

import pytest

from dev.lock import FOLDER, LOCKS, find_address, find_faults, read_pins

GOOD = """# Compiled from pyproject.toml by `make lock`.
celery[redis]==5.7.0 \\
    --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000
tzdata==2026.6 ; sys_platform == 'win32' \\
    --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000
"""


def test_the_locks_of_this_project_have_no_fault() -> None:
    assert find_faults({name: (FOLDER / f"{name}.lock").read_text() for name in LOCKS}) == []


def test_every_package_of_a_lock_is_pinned_by_hash() -> None:
    for name in LOCKS:
        text = (FOLDER / f"{name}.lock").read_text()
        blocks = re.split(r"\n(?=\w)", text.partition("\n")[2])
        assert len(blocks) == len(read_pins(text)) > 0
        assert all("--hash=sha256:" in block for block in blocks)


def test_pins_are_read_with_extras_and_markers() -> None:
    assert read_pins(GOOD) == {("celery", "5.7.0"), ("tzdata", "2026.6")}
    assert find_address(GOOD) is None


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.com/simple",
        "  --extra-index-url=x",
        "-e .",
        "--find-links /somewhere",
        "celery @ file:///somewhere",
        "celery @ git+ssh://example.com/celery",
        "# from https://example.com",
    ],
)
def test_an_address_in_a_lock_is_found(line: str) -> None:
    assert find_address(f"{GOOD}{line}\n")
    assert "names a registry" in find_faults({"test": f"{GOOD}{line}\n"})[0]


def test_locks_of_different_versions_are_found() -> None:
    faults = find_faults({"test": GOOD, "dev": GOOD.replace("5.7.0", "5.6.0")})
    assert faults == ["requirements/dev.lock has another version than test.lock: celery==5.6.0"]
