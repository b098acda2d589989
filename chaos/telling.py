"""What a run tells: a paragraph for each scenario, and the table of all."""

from dataclasses import dataclass

from chaos.running import Outcome
from chaos.stage import Measured

PLAIN = (
    "Plain Celery, measured with Celery 5.7 on Redis under the same kind of load: the first figures"
    " are with its packaged settings, *hardened* ones with late acknowledgement, an append-only"
    " file and a visibility timeout of 30 s. Limits of seconds are for a lease of 6 s unless a row"
    " says otherwise."
)
_FINDINGS = 20  # that are printed in full
_COLUMNS = (
    "what is done",
    "accepted",
    "lost",
    "duplicated effects (surplus runs)",
    "wrong status",
    "seconds to recover",
    "plain Celery",
)


@dataclass(frozen=True, slots=True)
class Report:
    """One run of some scenarios."""

    seed: int
    minutes: float
    cores: int
    outcomes: list[Outcome]


def paragraph(outcome: Outcome) -> str:
    """One scenario's figures, and what is wrong in full."""
    figures = [
        f"accepted {outcome.accepted}",
        f"lost {len(outcome.lost)}",
        f"duplicated {outcome.duplicated}",
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
    lines += [f"     lost: {each}" for each in outcome.lost[:_FINDINGS]]
    lines += [f"     wrong: {each}" for each in outcome.wrong[:_FINDINGS]]
    return "\n".join(lines)


def page(report: Report) -> str:
    """The table in Markdown, as it stands in docs/guarantees.md, and what made it."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|---|{'---:|' * 5}---|"]
    for each in report.outcomes:
        cells = [
            each.title,
            f"{each.accepted:,}",
            str(len(each.lost)),
            str(each.duplicated),
            str(len(each.wrong)),
            _recovered(each),
            each.plain or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    made = (
        f"Made by `make chaos ARGS=--write`, seed {report.seed}, in {report.minutes:.0f} minutes on"
        f" {report.cores} cores."
    )
    return "\n".join([*lines, "", f"{made} {PLAIN}"])


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
