"""The entry module: `celery -A worker.celery_app worker`, and `… flower`."""

from jobs.settings import load_settings
from worker.application import make_celery

app = make_celery(load_settings())
