"""Larger than memory: a limit that the system enforces, and what does not stream breaks at it."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = 2_000_000
MEBIBYTE = 1024 * 1024
LIMIT = 800 * MEBIBYTE  # of private memory, reserved or used; more than twice what is used

LIMITED = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT}, {LIMIT}))
"""
EAGER = (
    LIMITED
    + """
import polars as pl
pl.read_csv(sys.argv[1]).sort("shop", "amount").write_parquet(sys.argv[2])
"""
)
STREAMED = (
    LIMITED
    + """
import json, shutil
from pathlib import Path
from uuid import UUID, uuid4
from kinds.data import transform
from lading.testing import run
file_id = uuid4()
args = {"inputs": {"t": str(file_id)}, "sql": sys.argv[3], "format": "parquet"}
record = run(transform, args, files={file_id: Path(sys.argv[1])})
assert record.outcome == "succeeded", record.error
shutil.move(record.files[UUID(record.result["file_id"])].path, sys.argv[2])
print(json.dumps([record.result, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 MB of sales in no order."""
    chance = random.Random(1)
    path = tmp_path_factory.mktemp("large") / "sales.csv"
    with path.open("w") as file:
        file.write("id,shop,customer,product,amount,price,comment\n")
        for number in range(ROWS):
            shop, amount = chance.randrange(1_000_000), chance.randrange(10_000)
            file.write(
                f"{number},shop {shop:08},customer {amount * 7919:012},product {shop % 977:06},"
                f"{amount},{amount / 100},no comment on the sale {number:010}\n"
            )
    return path


def limited(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_sort_larger_than_memory_goes_to_disk(table: Path, tmp_path: Path) -> None:
    import polars as pl  # noqa: PLC0415 - after the children have run, here as everywhere

    sql = "SELECT * FROM t ORDER BY shop, amount"
    done = limited(STREAMED, table, tmp_path / "sorted", sql)
    assert done.returncode == 0, done.stderr
    result, peak = json.loads(done.stdout)
    assert (result["rows_in"], result["rows_out"]) == ({"t": ROWS}, ROWS)
    assert peak * 1024 < 512 * MEBIBYTE
    made = pl.scan_parquet(tmp_path / "sorted").select("shop", "amount", "id").collect()
    assert made.select(pl.struct("shop", "amount").is_sorted()).item()
    assert made["id"].n_unique() == ROWS


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_the_same_in_memory_breaks_at_the_limit(table: Path, tmp_path: Path) -> None:
    done = limited(EAGER, table, tmp_path / "sorted")
    assert done.returncode != 0
    assert "memory" in done.stderr
