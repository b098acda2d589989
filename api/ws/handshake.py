"""Who may open a socket: programs by their key, pages by a ticket and where they come from."""

from starlette.websockets import WebSocket

from api.keyring import CHALLENGE, Principal
from api.parts import Parts
from api.problems import Problem
from api.ws.frames import SUBPROTOCOL
from jobs.keys.scopes import Scope, opened_by
from jobs.keys.tickets import take_ticket

TICKET = "ticket."  # how the second subprotocol begins; unlike an address it is written to no log
FOR_SOCKETS = frozenset(
    {
        *(Scope.JOBS_READ, Scope.JOBS_WRITE),
        *(Scope.EVENTS_READ, Scope.EVENTS_CONSUME, Scope.EVENTS_WRITE),
    }
)  # each of them opens a socket: frames are checked one by one
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


async def authenticate(websocket: WebSocket, parts: Parts) -> Principal:
    """Who opens the socket. Problem, DatabaseUnavailable."""
    _require_origin(websocket, parts.settings.allowed_origins)
    offered = websocket.scope["subprotocols"]
    if SUBPROTOCOL not in offered:
        raise Problem("bad-request", f"This socket speaks the subprotocol {SUBPROTOCOL} alone.")
    principal = await _principal(websocket, parts, offered)
    if not principal.scopes & FOR_SOCKETS:
        principal.require(Scope.JOBS_READ)
    if parts.draining.is_set:
        raise Problem("draining", "Come back in a moment.", headers={"Retry-After": "1"})
    return principal


async def _principal(websocket: WebSocket, parts: Parts, offered: list[str]) -> Principal:
    authorization = websocket.headers.get("authorization")
    tickets = [each.removeprefix(TICKET) for each in offered if each.startswith(TICKET)]
    if authorization or not tickets:
        return await parts.keyring.authenticate(authorization)
    found = await parts.database.run(take_ticket, tickets[0])
    if found is None:
        headers = {"WWW-Authenticate": CHALLENGE}
        raise Problem("unauthenticated", "The ticket is not good, or no more.", headers=headers)
    return Principal(
        found.project_id, found.key_id, found.name, opened_by(found.scopes), found.limits
    )


def _require_origin(websocket: WebSocket, allowed: tuple[str, ...]) -> None:
    """Another site's page cannot use a ticket, wherever it got it."""
    origin = websocket.headers.get("origin")
    if origin is None or origin in allowed:
        return
    scheme, _, host = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    own = websocket.headers.get("host", "").lower()
    if port is None or host.removesuffix(port) != own.removesuffix(port):
        raise Problem("origin-not-allowed", f"Pages of {origin} may not open a socket here.")
