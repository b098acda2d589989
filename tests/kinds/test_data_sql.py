from pathlib import Path

import polars as pl
import pytest

from kinds.data_sql import check_statement, resolve
from lading import Fail
from tests.kinds.tables import AIRPORTS, opened, query, write_table

SECRET = "only for the server"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that no query may see."""
    return write_table(tmp_path / "secret.csv", pl.DataFrame({"word": [SECRET]}))


REACHING_OUT = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv('{secret}', has_header => true)",
    "SELECT * FROM READ_CSV ('{secret}')",
    "SELECT * FROM read_csv /* here */ ('{secret}')",
    "SELECT * FROM read_csv -- here\n ('{secret}')",
    "SELECT * FROM \"read_csv\"('{secret}')",
    "SELECT * FROM `read_csv`('{secret}')",
    "SELECT * FROM t, read_csv('{secret}')",
    "SELECT * FROM t JOIN read_csv('{secret}') AS s ON true",
    "SELECT * FROM (SELECT * FROM read_csv('{secret}')) AS s",
    "SELECT * FROM t WHERE a IN (SELECT word FROM read_csv('{secret}'))",
    "SELECT (SELECT MAX(word) FROM read_csv('{secret}')) FROM t",
    "SELECT a FROM t ORDER BY (SELECT MAX(word) FROM read_csv('{secret}'))",
    "SELECT a FROM t UNION ALL SELECT word FROM read_csv('{secret}')",
    "SELECT * REPLACE ((SELECT MAX(word) FROM read_csv('{secret}')) AS a) FROM t",
    "SELECT MAX(a) OVER w FROM t WINDOW w AS (ORDER BY (SELECT 1 FROM read_csv('{secret}')))",
    "WITH s AS (SELECT * FROM read_csv('{secret}')) SELECT * FROM s",
    "WITH read_csv AS (SELECT 1 AS one) SELECT * FROM read_csv('{secret}')",
    "WITH read_csv (word) AS (SELECT 'x') SELECT * FROM read_csv",
    "SELECT '/* ' AS a FROM read_csv('{secret}') -- */",
    "SELECT 'it''s' AS a FROM read_csv('{secret}')",
    "SELECT e'\\'' || 'x' FROM read_csv('{secret}')",
    "SELECT $$'$$ FROM read_csv('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_ndjson('{secret}')",
    "SELECT * FROM read_ipc('{secret}')",
    "SELECT * FROM read_anything_new('{secret}')",
    "SELECT * FROM scan_csv('{secret}')",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
    "SELECT * FROM '{secret}'",
    'SELECT * FROM "{secret}"',
    "SELECT * FROM elsewhere.secret",
    "SELECT * FROM generate_series(1, 1000000000000)",
]
NO_SELECT = [
    "COPY t TO '{secret}'",
    "CREATE TABLE s AS SELECT * FROM read_csv('{secret}')",
    "CREATE TABLE s AS SELECT * FROM t",
    "DROP TABLE t",
    "DELETE FROM t WHERE a = 1",
    "TRUNCATE TABLE t",
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET a = 1",
    "ATTACH '{secret}' AS s",
    "SHOW TABLES",
    "EXPLAIN SELECT * FROM t",
    "SET x = 1",
    "USE other",
    "-- SELECT\nDROP TABLE t",
    "",
    "/* nothing",
]
SEVERAL = ["SELECT 1 FROM t; SELECT 2 FROM t", "SELECT 1 FROM t; DROP TABLE t", "; SELECT 1 FROM t"]


@pytest.mark.parametrize("sql", [*REACHING_OUT, *NO_SELECT, *SEVERAL])
def test_nothing_but_the_inputs_can_be_reached(sql: str, secret: Path) -> None:
    with pytest.raises(Fail) as refused:
        check_statement(sql.replace("{secret}", str(secret)), ["t"])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("sql", REACHING_OUT[:1] + REACHING_OUT[16:18] + NO_SELECT[:2])
def test_a_job_that_reaches_out_fails_for_good(sql: str, secret: Path) -> None:
    record = query(sql.replace("{secret}", str(secret)), {"t": AIRPORTS})
    assert record.outcome == "failed"
    assert [stored.path for stored in record.files.values()] == [AIRPORTS]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t",
        "select a from t;",
        "  -- what is there\n SELECT a /* and /* deeper */ */ FROM t ;; ",
        "(SELECT a FROM t) UNION ALL (SELECT a FROM t)",
        "WITH s AS (SELECT a FROM t), u (b) AS (SELECT a FROM s) SELECT a FROM s JOIN u ON a = b",
        'WITH "a b" AS (SELECT a FROM t) SELECT a FROM "a b"',
        "WITH S AS (SELECT a FROM t) SELECT a FROM S",
        "SELECT a FROM t AS x WHERE x.a = 'read_csv(''/etc/hosts'')'",
        "SELECT a AS read_csv FROM t",
        "SELECT a FROM (SELECT a FROM t) AS read_me",
        "SELECT SUM(a) OVER w FROM t WINDOW w AS (PARTITION BY a)",
        "SELECT a FROM t WHERE a IN (SELECT a FROM t) AND EXISTS (SELECT 1 FROM t)",
        "SELECT CASE WHEN a = 1 THEN 'x; DROP TABLE t' ELSE ';' END AS c FROM t",
    ],
)
def test_what_a_query_needs_is_allowed(sql: str) -> None:
    check_statement(sql, ["t"])


def test_inputs_are_known_by_any_case() -> None:
    check_statement("SELECT * FROM Weather", ["weather"])


def test_a_plan_that_reads_another_file_is_refused(tmp_path: Path, secret: Path) -> None:
    """The last of the three checks, alone: the statement is not looked at."""
    table = opened(tmp_path, "t.csv", b"a\n1\n")
    with pytest.raises(Fail, match="nothing else"):
        resolve(f"SELECT * FROM read_csv('{secret}')", {"t": table.frame()}, [table])
    assert resolve("SELECT * FROM t", {"t": table.frame()}, [table]).collect().rows() == [(1,)]


def test_python_variables_are_no_tables(tmp_path: Path) -> None:
    table = opened(tmp_path, "t.csv", b"a\n1\n")
    hidden = pl.DataFrame({"word": [SECRET]})
    with pytest.raises(Fail, match="there is no input `hidden`"):
        resolve("SELECT * FROM hidden", {"t": table.frame()}, [table])
    assert hidden.height == 1


def test_a_message_names_the_nearest_table_s_columns(tmp_path: Path) -> None:
    first = opened(tmp_path, "t.csv", b"a,b\n1,2\n")
    with pytest.raises(Fail) as refused:
        resolve("SELECT c FROM t", {"t": first.frame()}, [first])
    assert refused.value.reason == "no column `c` in `t`; it has: a, b"
    with pytest.raises(Fail) as refused:
        resolve("WITH s AS (SELECT a AS d FROM t) SELECT c FROM s", {"t": first.frame()}, [first])
    assert refused.value.reason == "no column `c`; there are: d"


def test_a_wide_table_is_not_listed_in_full(tmp_path: Path) -> None:
    header = ",".join(f"c{number}" for number in range(100))
    wide = opened(tmp_path, "t.csv", f"{header}\n{'1,' * 99}1\n".encode())
    with pytest.raises(Fail) as refused:
        resolve("SELECT nothing FROM t", {"t": wide.frame()}, [wide])
    assert refused.value.reason.endswith("c28, c29 and 70 more")
