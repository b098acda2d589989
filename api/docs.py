"""The documentation that this process serves, whole and without the internet."""

from html import escape
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.problems import TYPES

router = APIRouter(include_in_schema=False)
STATIC = Path(__file__).parent / "static"

# Nothing is loaded from another host; Swagger UI styles elements by itself.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} – Lading</title>
<link rel="icon" href="/static/favicon.svg" type="image/svg+xml">
{head}
</head>
{body}
</html>
"""
_SWAGGER_HEAD = """<link rel="stylesheet" href="/static/swagger-ui.css">
<script src="/static/swagger-ui-bundle.js" defer></script>
<script src="/static/docs.js" defer></script>"""
_SWAGGER_BODY = '<body data-openapi="/openapi.json"><div id="swagger-ui"></div></body>'


@router.get("/")
async def root() -> Response:
    """People who come by are shown the documentation."""
    return RedirectResponse("/docs", status_code=302)


@router.get("/docs")
async def swagger_ui() -> Response:
    """The reference, to be tried out."""
    page = _PAGE.format(title="API", head=_SWAGGER_HEAD, body=_SWAGGER_BODY)
    return HTMLResponse(page, headers=_HEADERS)


@router.get("/docs/problems")
async def problems() -> Response:
    """Where the `type` of each problem leads."""
    paragraphs = "\n".join(
        f'<h2 id="{code}">{escape(title)}</h2><p><code>{code}</code>, HTTP status {status}</p>'
        for code, status, title in TYPES.values()
    )
    body = f"<body><main><h1>Problems</h1>\n{paragraphs}\n</main></body>"
    head = '<link rel="stylesheet" href="/static/docs.css">'
    return HTMLResponse(_PAGE.format(title="Problems", head=head, body=body), headers=_HEADERS)
