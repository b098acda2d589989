"""PgQueuer's worker, started as its documentation does beside `pgq run`."""

import argparse
import asyncio
import signal

from tasks import main


async def work(batch_size: int) -> None:
    async with main() as queue:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
        await queue.run(batch_size=batch_size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, required=True)
    asyncio.run(work(parser.parse_args().batch_size))
