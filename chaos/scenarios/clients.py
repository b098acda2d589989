"""Clients that lose patience and ask again."""

from chaos.proxy import SlowAnswers
from chaos.scenario import scenario
from chaos.stage import Stage

SLOW = 0.05  # of the answers
PATIENCE = 1.0  # seconds of the client; what is slow is slower


@scenario(
    "slow-answers",
    title="5 % of answers come after the client's patience of 1 s, and it asks again",
    plain="49 of 600 run twice; hardened: 30 of 600",
    seconds=20,
)
def answer_slowly(stage: Stage) -> None:
    with SlowAnswers(stage.platform.urls, SLOW, 2 * PATIENCE, stage.random) as proxy:
        load = stage.load(40, 15, urls=[proxy.url], timeout=PATIENCE, is_fresh=True)
        load.join()
    again = sum(entry.tries > 1 for entry in stage.book.entries)
    stage.tell(f"{again} submissions were sent again")
    stage.check(again >= SLOW * load.count / 3, f"only {again} submissions were sent again")
