"""The entry module of `uvicorn api.main:app`."""

from api.app import create_app
from api.logs import configure_logs
from jobs.settings import load_settings

configure_logs()
app = create_app(load_settings())
