"""Flower's configuration: `celery -A worker.celery_app flower --conf=worker/flowerconfig.py`.

Flower shows attempts as tasks of their kind, with the id `<job id>:<attempt>`. It only looks: a
task that it sent would pass the database by. It asks everybody for a name and a password, which
stand in FLOWER_BASIC_AUTH as `user:password`, and keeps nothing over a restart.
"""

from flower.views.monitor import Metrics
from tornado.options import options
from tornado.web import authenticated

if not options.basic_auth or not all(":" in each for each in options.basic_auth):
    raise SystemExit("Flower needs FLOWER_BASIC_AUTH=user:password")

Metrics.get = authenticated(Metrics.get)  # open by default

read_only = True
enable_events = True  # workers send them only while somebody listens
persistent = False
natural_time = True
inspect_timeout = 3000.0  # milliseconds; a loaded worker takes its time
max_tasks = 20_000  # in memory, about 2 KiB each
purge_offline_workers = 3600  # seconds; each deploy brings new names
tasks_columns = "name,uuid,state,received,started,runtime,worker"
