"""The entry module of `uvicorn api.main:app`."""

import gc

from api.app import create_app
from api.logs import configure_logs
from jobs.settings import load_settings

# Net new objects until the youngest are looked through, and how often each age before the next.
# With Python's own (700, 10, 10) all objects of a process with 2,000 sockets are looked through
# every few seconds while sockets come, which stops the whole process for half a second.
GARBAGE = (10_000, 10, 20)

configure_logs()
app = create_app(load_settings())
gc.collect()
gc.freeze()  # what was imported stays, and is not looked through again
gc.set_threshold(*GARBAGE)
