"""What PostgreSQL reads for a question, whatever it answers."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event


def rows_read(connection: Connection, ask: Callable[[], object]) -> list[float]:
    """Of tables and indexes, over all loops of the plans; a figure for each statement of `ask`."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    ask()
    event.remove(connection, "before_cursor_execute", note)
    return [_rows(connection, *each) for each in asked]


def _rows(connection: Connection, statement: str, parameters: Any) -> float:
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    found, todo = 0.0, [connection.exec_driver_sql(explain, parameters).scalar_one()[0]["Plan"]]
    while todo:
        node = todo.pop()
        todo += node.get("Plans", [])
        removed = node.get("Rows Removed by Filter", 0)
        found += (node["Actual Rows"] + removed) * node["Actual Loops"]
    return found
