"""Args made in Python, as the JSON that the server takes."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python


def as_json(args: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """What a client would send: secrets revealed, a model's fields that nobody set left out.

    The values of a mapping that are no models stay what they are.
    """
    if isinstance(args, BaseModel):
        plain = args.model_dump(mode="python", by_alias=True, exclude_unset=True)
        revealed: dict[str, Any] = to_jsonable_python(_revealed(plain), by_alias=True)
        return revealed
    return {key: _revealed(value) for key, value in args.items()}


def _revealed(value: Any) -> Any:
    match value:
        case SecretStr() | SecretBytes():
            return value.get_secret_value()
        case BaseModel():
            return as_json(value)
        case dict():
            return {key: _revealed(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_revealed(each) for each in value]
        case _:
            return value
