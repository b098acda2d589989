"""Patterns of event types: `user.created` itself, `user.*` for all that go on so, `*` for any.

A star stands alone or at the end, after a dot: so the patterns that fit a type are few and known,
and whoever waits for it is found by an index.
"""

import re

ANY = "*"
LENGTH = 255  # characters, of a type and of a pattern
_PATTERN = re.compile(r"\*|[^*\x00-\x20\x7f]+(?:\.\*)?")
WRONG = "no pattern of types: a type like user.created, its beginning like user.*, or *"


def is_pattern(text: object) -> bool:
    """Whether it can be waited for."""
    return isinstance(text, str) and len(text) <= LENGTH and bool(_PATTERN.fullmatch(text))


def patterns_of(type_: str) -> list[str]:
    """Every pattern that the type fits, the narrowest first."""
    found = [type_]
    while "." in type_:
        type_ = type_.rpartition(".")[0]
        found.append(f"{type_}.*")
    return [*found, ANY]


def fits(pattern: str, type_: str) -> bool:
    """Whether events of the type are meant; `user.*` does not mean `user` itself."""
    if pattern.endswith(".*"):
        return type_.startswith(pattern[:-1])
    return pattern in {ANY, type_}
