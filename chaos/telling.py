"""What a run tells: a paragraph for each scenario, and the table of all."""

from collections.abc import Sequence

from chaos.running import Outcome
from chaos.stage import Measured

PLAIN = (
    "plain Celery, measured with Celery 5.7 on Redis: “hardened” is with late acknowledgement, an"
    " append-only file and a visibility timeout of 30 s, the other figures with the usual settings"
)
_WHY_LIMIT = 20  # of the findings that are printed in full
_COLUMNS = (
    "scenario",
    "accepted",
    "lost",
    "duplicated effects",
    "wrong status",
    "seconds to recover",
    "plain Celery",
)


def paragraph(outcome: Outcome) -> str:
    """One scenario's figures, and what is wrong in full."""
    figures = [
        f"accepted {outcome.accepted}",
        f"lost {len(outcome.lost)}",
        f"duplicated {_duplicated(outcome)}",
        f"wrong {len(outcome.wrong)}",
        f"recovered {_recovered(outcome)}",
    ]
    if outcome.crashed_out:
        figures.append(f"failed after three kills {outcome.crashed_out}")
    if outcome.flow is not None:
        figures.append(f"full flow after {outcome.flow:.1f} s")
    mark = "ok  " if outcome.is_good else "FAIL"
    lines = [f"{mark} {outcome.name}: {outcome.title} ({outcome.seconds:.0f} s)"]
    lines.append(f"     {' · '.join(figures)}")
    lines += [f"     plain Celery: {outcome.plain}"] if outcome.plain else []
    lines += [f"     {_measure(each)}" for each in outcome.measured]
    lines += [f"     note: {note}" for note in outcome.notes]
    lines += [f"     lost: {each}" for each in outcome.lost[:_WHY_LIMIT]]
    lines += [f"     wrong: {each}" for each in outcome.wrong[:_WHY_LIMIT]]
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> str:
    """In Markdown, as it stands in docs/guarantees.md."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|---|{'---:|' * 5}---|"]
    for each in outcomes:
        cells = [
            each.title,
            str(each.accepted),
            str(len(each.lost)),
            _duplicated(each),
            str(len(each.wrong)),
            _recovered(each),
            each.plain or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _duplicated(outcome: Outcome) -> str:
    return str(outcome.duplicated)


def _recovered(outcome: Outcome) -> str:
    if outcome.measured:
        worst = max(outcome.measured, key=lambda each: each.seconds / (each.limit or 1e9))
        return _with_limit(worst.seconds, worst.limit)
    if outcome.recovered is not None:
        return _with_limit(outcome.recovered, outcome.limit)
    return "–"


def _with_limit(seconds: float, limit: float | None) -> str:
    return f"{seconds:.1f}" if limit is None else f"{seconds:.1f} (≤ {limit:g})"


def _measure(each: Measured) -> str:
    return f"{each.words}: {_with_limit(each.seconds, each.limit)} s"
