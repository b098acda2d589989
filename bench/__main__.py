"""`make bench`: Lading beside its peers, the same jobs on the same servers, in one run.

make bench ARGS="--quick"                          every peer once, small: minutes
make bench ARGS="--only lading,pgqueuer --quick"   some of them
make bench ARGS="--json F --write"                 all of it, into a file, docs and plot
"""

import argparse
import json
import shutil
import signal
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import environments, phases
from bench.catalogue import PEERS
from bench.figures import median_of
from bench.generator import make_executor
from bench.peer import Peer
from bench.phases import Amounts
from bench.plot import write_plot
from bench.report import machine, table, write
from bench.running import running
from bench.servers import Servers

ROUNDS = 3


def compare(
    peers: Sequence[Peer],
    amounts: Amounts,
    rounds: int,
    logs: Path,
    chosen: Collection[str] = phases.PHASES,
) -> dict[str, Any]:
    """The figures of all rounds, by peer. In each round the peers follow one another.

    One that fails in a round has no figures there, and its error is told.
    """
    found: dict[str, Any] = {peer.name: [] for peer in peers}
    with Servers() as servers, make_executor() as load:
        for number in range(rounds):
            shift = number % len(peers)  # so that none is always first
            for peer in (*peers[shift:], *peers[:shift]):
                print(f"Round {number + 1} of {rounds}: {peer.title}", flush=True)
                # The long backlogs once: they take longer than all else.
                some = amounts if number == 0 else replace(amounts, backlogs=amounts.backlogs[:1])
                try:
                    with running(peer, servers, load, logs / peer.name) as it:
                        found[peer.name].append(phases.measure(it, some, chosen))
                except (ChildProcessError, TimeoutError, ConnectionError, AssertionError) as error:
                    print(f"{peer.title} has failed: {error!r}", flush=True)
    return found


def main() -> None:
    """Prints the table."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # all is ended then
    chosen = [peer for peer in PEERS if not options.only or peer.name in options.only]
    amounts = phases.TINY if options.tiny else phases.QUICK if options.quick else Amounts()
    if options.tiny:  # one worker each will do
        chosen = [replace(peer, workers=peer.workers[:1]) for peer in chosen]
    if options.backlog:
        amounts = replace(amounts, backlogs=tuple(options.backlog))
    if options.write and set(options.phases) != set(phases.PHASES):
        raise SystemExit("--write needs all phases")
    rounds = options.rounds or (1 if options.quick or options.tiny else ROUNDS)
    for peer in chosen:
        environments.install(peer)
    shutil.rmtree(options.logs, ignore_errors=True)
    found = compare(chosen, amounts, rounds, options.logs, options.phases)
    results = {
        "machine": machine(),
        "rounds": rounds,
        "peers": {
            name: {"median": median_of(each), "rounds": each} for name, each in found.items()
        },
    }
    text = table(chosen, results)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    if options.write:
        write(text)
        write_plot(chosen, results)


def _options() -> argparse.Namespace:
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_names, default=[], help=f"some of {','.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small amounts, one round")
    parser.add_argument("--tiny", action="store_true", help="only to see that it runs")
    parser.add_argument(
        "--phases", type=_phases, default=phases.PHASES, help=f"some of {','.join(phases.PHASES)}"
    )
    parser.add_argument("--rounds", type=int, help=f"how often each ({ROUNDS})")
    parser.add_argument("--backlog", type=int, action="append", help="jobs; may be repeated")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--write", action="store_true", help="into docs/, table and plot")
    parser.add_argument("--logs", type=Path, default=Path(".bench/logs"), help="a folder for logs")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    known = {peer.name for peer in PEERS}
    names = text.split(",")
    if unknown := set(names) - known:
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return names


def _phases(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(phases.PHASES):
        raise argparse.ArgumentTypeError(f"no such phase: {', '.join(sorted(unknown))}")
    return chosen


if __name__ == "__main__":
    main()
