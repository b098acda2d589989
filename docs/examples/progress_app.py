"""An application of your own behind progress.html: it starts jobs, and hands out tickets.

LADING_ALLOWED_ORIGINS=http://127.0.0.1:8080 make dev
.venv/bin/python -m uvicorn --app-dir docs/examples progress_app:app --port 8080
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse

from lading import AsyncClient

PAGE = Path(__file__).parent / "progress.html"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient() as app.state.lading:
        yield


app = FastAPI(lifespan=lifespan)


def lading_of(request: Request) -> AsyncClient:
    client: AsyncClient = request.app.state.lading
    return client


@app.get("/")
def page() -> FileResponse:
    return FileResponse(PAGE)


@app.get("/where")
def where(request: Request) -> dict[str, str]:
    return {"lading": lading_of(request).url}


@app.post("/ticket", response_class=PlainTextResponse)
async def ticket(request: Request) -> str:
    """Ask for it in the name of whoever is logged in; it opens one socket, within 30 seconds."""
    return await lading_of(request).ticket()


@app.post("/start")
async def start(request: Request) -> dict[str, str]:
    job = await lading_of(request).submit("demo.sleep", {"seconds": 10, "steps": 40})
    return {"id": str(job.id)}


@app.post("/cancel/{job_id}")
async def cancel(request: Request, job_id: str) -> None:
    await lading_of(request).cancel(job_id)
