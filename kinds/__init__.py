"""The built-in kinds. A server registers these, and beside them the modules in LADING_KINDS.

The api imports them too, for their schemas: what is heavy is imported inside a handler.
"""

MODULES: tuple[str, ...] = (
    "kinds.email",
    "kinds.data",
    "kinds.http",
    "kinds.webhook",
    "kinds.demo",
)
