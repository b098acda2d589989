"""Writes and checks the locks in requirements/, which `make dev` and `make test` install.

    python -m dev.lock            compile them anew; versions stay where pyproject.toml allows it
    python -m dev.lock --upgrade  take the newest versions
    python -m dev.lock --check    change nothing; 1 when they are not what pyproject.toml asks for

They are one choice of versions, cut to different sizes, for every platform, with hashes and
without any address of a registry, so that pip and uv install them from wherever they are set to.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from uv import find_uv_bin

from dev.errors import DevError

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
OLDEST_PYTHON = "3.11"

LOCKS = {  # the widest first: the others take its versions
    "test": ("server", "data", "mailcatcher", "embedded", "test"),
    "dev": ("server", "data", "mailcatcher", "embedded"),
    "server": ("server", "data"),
    "mailcatcher": ("mailcatcher",),
}
_HEADER = "# Compiled from pyproject.toml by `make lock`.\n"
_ADDRESS = re.compile(r"^\s*-|://|\bfile:|^[^#]* @ ", re.MULTILINE)
_PIN = re.compile(r"^(?P<name>[\w.-]+)(?:\[[\w,]+\])?==(?P<version>[^\s;]+)", re.MULTILINE)
_UNREACHABLE = re.compile(
    r"failed to fetch|error sending request|could not connect|dns error|timed out",
    re.IGNORECASE,
)


class RegistryUnreachable(DevError):
    """No registry answers, so nobody can say whether a lock is right."""


def compile_lock(name: str, preferred: Path, *, upgrade: bool = False) -> str:
    """The lock as pyproject.toml asks for it, with the versions of `preferred` where they fit."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / f"{name}.lock"
        if preferred.exists():
            shutil.copy(preferred, output)
        command = [find_uv_bin(), "pip", "compile", "pyproject.toml", "--output-file", str(output)]
        command += ["--universal", "--generate-hashes", "--no-header", "--quiet"]
        command += ["--python-version", OLDEST_PYTHON, "--no-annotate"]
        command += [part for extra in LOCKS[name] for part in ("--extra", extra)]
        command += ["--upgrade"] if upgrade else []
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            unreachable = _UNREACHABLE.search(done.stderr)
            raise (RegistryUnreachable if unreachable else DevError)(done.stderr.strip())
        return _HEADER + output.read_text()


def write_locks(*, upgrade: bool) -> None:
    """All three are new, and agree."""
    FOLDER.mkdir(exist_ok=True)
    widest = FOLDER / "test.lock"
    for name in LOCKS:
        path = FOLDER / f"{name}.lock"
        text = compile_lock(name, widest, upgrade=upgrade and path == widest)
        path.write_text(text)
        print(f"{path.relative_to(ROOT)}: {len(read_pins(text))} packages")


def find_faults(texts: Mapping[str, str]) -> list[str]:
    """What is wrong with the locks, by name, as they lie there."""
    faults = [
        f"requirements/{name}.lock names a registry or an option: {found.group().strip()}"
        for name, text in texts.items()
        if (found := find_address(text))
    ]
    widest = read_pins(texts["test"])
    return faults + [
        f"requirements/{name}.lock has another version than test.lock: {package}=={version}"
        for name, text in texts.items()
        for package, version in read_pins(text)
        if (package, version) not in widest
    ]


def find_drift(texts: Mapping[str, str]) -> list[str]:
    """Which locks would be others if they were compiled now; RegistryUnreachable may be raised."""
    return [
        f"requirements/{name}.lock is not what pyproject.toml asks for: run `make lock`"
        for name, text in texts.items()
        if compile_lock(name, FOLDER / f"{name}.lock") != text
    ]


def check_locks() -> int:
    """Prints the faults; 1 if there are any. No registry: says loudly what was not checked."""
    texts = {name: (FOLDER / f"{name}.lock").read_text() for name in LOCKS}
    faults = find_faults(texts)
    try:
        faults += find_drift(texts)
    except RegistryUnreachable as error:
        print(f"{error}\n*** NOT CHECKED: no registry answers, so the locks were not compiled ***")
    print("\n".join(faults or ["No faults in the locks"]))
    return 1 if faults else 0


def find_address(text: str) -> re.Match[str] | None:
    """The first address of a registry, a folder or a file, or option line, but for hashes."""
    return _ADDRESS.search(re.sub(r"--hash=sha256:[0-9a-f]{64}", "", text))


def read_pins(text: str) -> set[tuple[str, str]]:
    """Every (package, version) of a lock."""
    return {(pin["name"], pin["version"]) for pin in _PIN.finditer(text)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.lock")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", action="store_true")
    either.add_argument("--upgrade", action="store_true")
    given = parser.parse_args()
    try:
        if given.check:
            return check_locks()
        write_locks(upgrade=given.upgrade)
    except DevError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
