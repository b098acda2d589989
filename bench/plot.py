"""The picture for the README: CPU for each job, and jobs a second, of ours and of each peer.

SVG by hand, for a handful of bars. Colours follow the reader's light or dark mode.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bench.peer import ROOT, Peer

PLOT = ROOT / "docs" / "images" / "peers.svg"
WIDTH, ROW, TOP, BOTTOM = 860, 30, 64, 26
NAMES, COST, RATE = 250, 300, 160  # widths of the columns
COST_AT, RATE_AT = 262, 630
BAR = 16
LABEL = "CPU time for each job and jobs a second, of Lading and its peers"
GROUPS = ("api", "worker", "dispatcher", "postgres", "redis")
WORDS = {"api": "API", "worker": "workers", "postgres": "PostgreSQL", "redis": "Redis"}
# Okabe and Ito's palette: told apart by all eyes, and on white as on black.
COLOURS = {
    "api": "#0072b2",
    "worker": "#e69f00",
    "dispatcher": "#cc79a7",
    "postgres": "#009e73",
    "redis": "#d55e00",
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.ours { font-weight: 700 } .head { font-weight: 600 } .small { font-size: 11px; fill: #59636e }
.rate { fill: #6e7781 } .rate.ours { fill: #0072b2 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 }
  .rate { fill: #9198a1 } .rate.ours { fill: #56b4e9 }
}
"""


def write_plot(peers: Sequence[Peer], results: Mapping[str, Any]) -> None:
    """docs/images/peers.svg shows these figures."""
    PLOT.write_text(plot(peers, results))


def plot(peers: Sequence[Peer], results: Mapping[str, Any]) -> str:
    """SVG, the cheapest first."""
    rows = [
        (peer, results["peers"][peer.name]["median"]["end_to_end"])
        for peer in peers
        if results["peers"][peer.name]["median"]
    ]
    rows.sort(key=lambda row: row[1]["cpu_ms"]["all"])
    dearest = max(figures["cpu_ms"]["all"] for _, figures in rows)
    fastest = max(figures["rate"] for _, figures in rows)
    height = TOP + ROW * len(rows) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
        f'aria-label="{LABEL}">',
        f"<style>{STYLE}</style>",
        _text(COST_AT, 20, "CPU-ms for each job, end to end", "head"),
        _text(RATE_AT, 20, "jobs a second, end to end", "head"),
        *_legend(),
    ]
    for number, (peer, figures) in enumerate(rows):
        parts += _row(peer, figures, TOP + ROW * number, dearest, fastest)
    parts.append(_text(8, height - 8, results["machine"], "small"))
    return "\n".join([*parts, "</svg>", ""])


def _row(
    peer: Peer, figures: Mapping[str, Any], y: int, dearest: float, fastest: float
) -> Iterable[str]:
    ours = "ours" if peer.is_ours else ""
    line = y + BAR - 3
    yield _text(8, line, _title(peer), ours)
    x = float(COST_AT)
    for group in GROUPS:
        length = COST * figures["cpu_ms"].get(group, 0.0) / dearest
        yield _bar(x, y, length, f'fill="{COLOURS[group]}"')
        x += length
    yield _text(x + 6, line, f"{figures['cpu_ms']['all']:.2f}", ours)
    length = RATE * figures["rate"] / fastest
    yield _bar(RATE_AT, y, length, f'class="rate {ours}"')
    yield _text(RATE_AT + length + 6, line, f"{figures['rate']:,.0f}", ours)


def _title(peer: Peer) -> str:
    """Shorter, and with Redis in it where that is all there is."""
    title = peer.title.replace("*", "").replace("FastAPI + Celery", "Celery")
    is_told = "Redis" in title or "PostgreSQL" in peer.promise.lives_in
    return title if is_told else f"{title} on Redis"


def _legend() -> Iterable[str]:
    x = COST_AT
    for group in GROUPS:
        yield f'<rect x="{x}" y="32" width="10" height="10" fill="{COLOURS[group]}"/>'
        word = WORDS.get(group, group)
        yield _text(x + 14, 41, word, "small")
        x += 26 + 7 * len(word)


def _bar(x: float, y: float, length: float, look: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{max(length, 0):.1f}" height="{BAR}" {look}/>'


def _text(x: float, y: float, words: str, look: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" class="{look}">{escape(words)}</text>'
