"""One request until it is answered, and answers read."""

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lading.client.errors import UnexpectedAnswer
from lading.client.exchange import Answer, Call, Lost, Pause, Request, Send
from lading.client.trying import Trying

Model = TypeVar("Model", bound=BaseModel)


def call(request: Request, patience: float) -> Call[Answer]:
    """The answer, a success; sent again where that may help, for at most `patience` seconds.

    Raises what `error_of` makes of a refusal, and Unreachable.
    """
    trying = Trying(patience)
    while True:
        reply: Answer | Lost = yield Send(request)
        if isinstance(reply, Answer) and reply.is_success:
            return reply
        yield Pause(trying.pause_after(request, reply))


def read(model: type[Model], answer: Answer) -> Model:
    """The answer's JSON as that model; UnexpectedAnswer when it is something else."""
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        raise _unexpected(model, answer) from error


def read_items(model: type[Model], answer: Answer, member: str = "items") -> list[Model]:
    """The models in that member of the answer's JSON object."""
    try:
        return [model.model_validate(each) for each in json.loads(answer.body)[member]]
    except (ValueError, KeyError, TypeError) as error:
        raise _unexpected(model, answer) from error


def _unexpected(model: type[BaseModel], answer: Answer) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"an answer that is not Lading's {model.__name__}: {answer.status},"
        f" {answer.media_type or 'no type'}"
    )
