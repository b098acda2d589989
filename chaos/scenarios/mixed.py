"""Everything at once: a seeded choice of all mishaps, for five minutes."""

import time

from chaos.scenario import MISHAPS, scenario
from chaos.stage import Stage

LASTS = 300.0  # seconds
PAUSES = (0.5, 4.0)  # seconds between two mishaps, from … to
RATE = 12.0  # jobs a second


@scenario(
    "mixed",
    title="a random mix of all faults, for five minutes",
    plain="",
    seconds=330,
    settle=120,
)
def mix(stage: Stage) -> None:
    load = stage.load(rate=RATE, seconds=LASTS)
    end = time.monotonic() + LASTS
    done: dict[str, int] = dict.fromkeys(MISHAPS, 0)
    while time.monotonic() < end:
        name = stage.random.choice(sorted(MISHAPS))
        MISHAPS[name].act(stage)
        done[name] += 1
        stage.wait(stage.random.uniform(*PAUSES))
    load.join()
    stage.tell(", ".join(f"{count} × {name}" for name, count in done.items() if count))
