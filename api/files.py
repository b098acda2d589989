"""Files: uploaded in a form, read by anybody with a key, deleted."""

from typing import Annotated, Any
from uuid import UUID

import structlog
from anyio import to_thread
from fastapi import APIRouter, Path, Request, Response

from api import schemas
from api.content import content_response
from api.documents import json_response
from api.parts import actor_of, parts_of, principal_of
from api.promises import IF_NONE_MATCH, RANGE, answer, problems
from api.strict import StrictRoute
from api.uploads import FIELD, receive_upload
from jobs import files
from jobs.errors import FileMissing
from jobs.files import FileView, get_file, record_file
from jobs.trail.record import Deed

router = APIRouter(route_class=StrictRoute, tags=["files"])

FileId = Annotated[UUID, Path(description="The file's id")]
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary"}},
                "additionalProperties": False,
            }
        }
    },
}
_BYTES = {"*/*": {"schema": {"type": "string", "format": "binary"}}}

_log = structlog.get_logger(__name__)


@router.post(
    "/v1/files",
    status_code=201,
    responses={
        201: answer("The file is stored", "Location", model=schemas.File),
        **problems(
            "bad-request", "payload-too-large", "unsupported-media-type", "validation-failed"
        ),
    },
    openapi_extra={"requestBody": _FORM},
)
async def upload_file(request: Request) -> Response:
    """Upload a file, for jobs to read."""
    parts, actor = parts_of(request), actor_of(request)
    upload = await receive_upload(request, parts.files, parts.settings.max_file_bytes)
    file = await parts.database.change(
        actor,
        lambda file: Deed("file.upload", file.id, {"size": file.size}),
        record_file,
        actor.project_id,
        upload.stored,
        name=upload.name,
        media_type=upload.media_type,
    )
    return json_response(_document(file), 201, {"Location": f"/v1/files/{file.id}"})


@router.get(
    "/v1/files/{file_id}",
    responses={200: answer("The file", model=schemas.File), **problems("file-not-found")},
)
async def read_file(request: Request, file_id: FileId) -> Response:
    """Read what is known of a file."""
    project_id = principal_of(request).project_id
    return json_response(
        _document(await parts_of(request).database.run(get_file, project_id, file_id))
    )


@router.get(
    "/v1/files/{file_id}/content",
    response_class=Response,
    responses={
        200: {
            **answer("The bytes", "ETag", "Accept-Ranges", "Content-Disposition"),
            "content": _BYTES,
        },
        206: {
            **answer("Some of the bytes", "ETag", "Content-Range", "Content-Disposition"),
            "content": _BYTES,
        },
        304: answer("The client has them", "ETag"),
        **problems("file-not-found", "range-not-satisfiable"),
    },
    openapi_extra={"parameters": [IF_NONE_MATCH, RANGE]},
)
async def read_content(request: Request, file_id: FileId) -> Response:
    """Download a file, or a range of it."""
    parts, project_id = parts_of(request), principal_of(request).project_id
    file = await parts.database.run(get_file, project_id, file_id)
    path = parts.files.path_of(file.id)
    if not await to_thread.run_sync(path.exists):
        _log.error("a file's bytes are not in this process's folder", path=str(path))
        raise FileMissing(file_id)
    return content_response(file, path, request.headers)


@router.delete(
    "/v1/files/{file_id}",
    status_code=204,
    response_class=Response,
    responses=problems("file-not-found"),
)
async def delete_file(request: Request, file_id: FileId) -> Response:
    """Delete a file."""
    parts, actor = parts_of(request), actor_of(request)
    deed = Deed("file.delete", file_id)
    await parts.database.change(actor, deed, files.delete_file, actor.project_id, file_id)
    await to_thread.run_sync(parts.files.remove, file_id)
    return Response(status_code=204)


def _document(file: FileView) -> dict[str, Any]:
    path = f"/v1/files/{file.id}"
    return {**file._asdict(), "links": {"self": path, "content": f"{path}/content"}}
