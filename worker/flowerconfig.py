"""What Flower is told, beside FLOWER_BASIC_AUTH: `celery -A worker.celery_app flower --conf=…`.

It is for watching only: to start, stop or resend an attempt from there would go past PostgreSQL,
where what is true stands. Each lower-case name is an option of Flower.
"""

import os
import sys

from flower.views.monitor import Metrics
from tornado.web import authenticated

if not os.environ.get("FLOWER_BASIC_AUTH"):
    sys.exit("Flower shows what runs here: set FLOWER_BASIC_AUTH=user:password")

# Flower leaves its metrics open whatever the login; kinds and hosts are nobody's business.
Metrics.get = authenticated(Metrics.get)

read_only = True
auto_refresh = True
natural_time = True
enable_events = True  # workers send task events while somebody listens, and not otherwise
persistent = False  # the history is in PostgreSQL
max_tasks = 10_000  # attempts shown; a window, not an archive
purge_offline_workers = 60  # seconds; each start of a worker is a new one
inspect_timeout = 3000.0  # milliseconds; a loaded worker takes its time
tasks_columns = "name,uuid,state,received,started,runtime,worker,args"
