"""What a trigger makes of an event: a submission like any other; and whether it can at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from jobs import documents
from jobs.bus.mapping import (
    MappingFailed,
    constant,
    fill,
    fill_flaws,
    is_constant,
    make_args,
    mapping_flaws,
)
from jobs.bus.matching import filter_flaws, matches, view
from jobs.bus.triggers import TriggerSpec
from jobs.catalogue import arg_names
from jobs.errors import Flaw, InvalidSubmission, JobsError
from jobs.registry import Registry
from jobs.submissions import TIES, NewJob, Submission, check, flaws, read_ties
from lading.patterns import WRONG, fits, is_pattern

#: Of a submission, as POST /v1/jobs takes them; durations in seconds.
DURATIONS = ("delay", "timeout", "expires_in")
OPTIONS = frozenset({"queue", "priority", "max_attempts", "labels", *DURATIONS, *TIES})
KEYED = ("unique", "concurrency")  # their keys may hold expressions
MOST_MAPPING_BYTES = 64 * 1024  # of JSON


def make_job(registry: Registry, trigger: TriggerSpec, seen: Mapping[str, Any]) -> NewJob:
    """The job for the event in jobs.bus.matching's view. InvalidSubmission: its args do not fit."""
    try:
        args, trigger = make_args(trigger.args, seen), _filled(trigger, seen)
    except MappingFailed as error:
        raise InvalidSubmission(error.flaw) from None
    return _checked(registry, _submission(trigger, args))


class _Mistakes:
    """Whatever a kind's own validators raise is a flaw of the args: it holds up nobody else."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, JobsError):
            said = f"the kind's model raised {error!r:.500}"
            raise InvalidSubmission(Flaw("#/args", said)) from None


def _checked(registry: Registry, submission: Submission) -> NewJob:
    with _Mistakes():
        return check(registry, submission)


class Rehearsal(NamedTuple):
    """What a trigger would make of an event."""

    fits_type: bool
    passes_filter: bool
    args: dict[str, Any] | None  #: None: the mapping makes none
    flaws: Sequence[Flaw]  #: why there would be no job


def rehearse(registry: Registry, trigger: TriggerSpec, event: Mapping[str, Any]) -> Rehearsal:
    """Nothing is done; the args are made even if the event would not meet the trigger."""
    seen = view(event)
    found: Sequence[Flaw] = ()
    args = None
    try:
        args = make_args(trigger.args, seen)
        _checked(registry, _submission(_filled(trigger, seen), args))
    except MappingFailed as error:
        found = [error.flaw]
    except InvalidSubmission as error:
        found = error.flaws
    fits_type = fits(trigger.pattern, event["type"])
    return Rehearsal(fits_type, matches(trigger.filter, seen), args, found)


def check_trigger(registry: Registry, trigger: TriggerSpec) -> None:
    """Nothing is known to be wrong with it. InvalidSubmission.

    What only an event can tell, the values of expressions, is not known yet. Against the kind's
    args stand: names that it does not have, names that it needs, and values without expressions.
    """
    found = [*_flaws(registry, trigger)]
    if not found:
        found = [*_option_flaws(registry, trigger), *_args_flaws(registry, trigger)]
    if found:
        raise InvalidSubmission(*found)


def _filled(trigger: TriggerSpec, seen: Mapping[str, Any]) -> TriggerSpec:
    """With the keys of the event's job. MappingFailed."""
    filled = {
        name: {**trigger.options[name], "key": fill(key, seen, f"#/{name}/key")}
        for name, key in _keys(trigger)
    }
    return replace(trigger, options={**trigger.options, **filled}) if filled else trigger


def _keys(trigger: TriggerSpec) -> Iterator[tuple[str, str]]:
    for name in KEYED:
        if isinstance(given := trigger.options.get(name), Mapping):
            key = given.get("key")
            if isinstance(key, str):
                yield name, key


def _submission(trigger: TriggerSpec, args: Mapping[str, Any]) -> Submission:
    options: dict[str, Any] = {
        name: timedelta(seconds=value) if name in DURATIONS else value
        for name, value in trigger.options.items()
        if name not in TIES
    }
    ties = read_ties(trigger.options, trigger.sealed, trigger.sealed_for)
    return Submission(kind=trigger.kind, args=args, **options, **ties)


def _flaws(registry: Registry, trigger: TriggerSpec) -> Iterator[Flaw]:
    if not is_pattern(trigger.pattern):
        yield Flaw("#/type", WRONG)
    if trigger.kind not in registry:
        yield Flaw("#/kind", f"there is no kind {trigger.kind!r}")
    for name in trigger.options.keys() - OPTIONS:
        yield Flaw(f"#/{name}", "no option of a job")
    yield from filter_flaws(trigger.filter, "#/filter")
    for name in ("filter", "args"):
        try:
            size = len(documents.encode(getattr(trigger, name)))
        except documents.NotStorable as error:
            yield Flaw(f"#/{name}", str(error))
        else:
            if size > MOST_MAPPING_BYTES:
                yield Flaw(f"#/{name}", f"longer than {MOST_MAPPING_BYTES} bytes of JSON")
    yield from mapping_flaws(trigger.args, "#/args")
    for name, key in _keys(trigger):
        yield from fill_flaws(key, f"#/{name}/key")


def _option_flaws(registry: Registry, trigger: TriggerSpec) -> Iterator[Flaw]:
    try:
        _checked(registry, _submission(trigger, {}))
    except InvalidSubmission as error:
        yield from (flaw for flaw in error.flaws if not flaw.pointer.startswith("#/args"))


def _args_flaws(registry: Registry, trigger: TriggerSpec) -> Iterator[Flaw]:
    mapping, model = trigger.args, registry[trigger.kind].args_model
    if mapping is None or isinstance(mapping, str):
        return
    if is_constant(mapping):
        try:
            _checked(registry, _submission(trigger, constant(mapping)))
        except InvalidSubmission as error:
            yield from error.flaws
    elif not _reads_by_itself(model):
        yield from _name_flaws(mapping, model)


def _reads_by_itself(model: type[BaseModel]) -> bool:
    """Whether the model takes other shapes than its fields say."""
    decorators = model.__pydantic_decorators__.model_validators.values()
    return "root" in model.model_fields or any(each.info.mode != "after" for each in decorators)


def _name_flaws(mapping: Mapping[str, Any], model: type[BaseModel]) -> Iterator[Flaw]:
    fields = {
        name: field
        for field_name, field in model.model_fields.items()
        for name in arg_names(field_name, field)
    }
    for name, value in mapping.items():
        if name in fields:
            yield from _value_flaws(value, fields[name], f"#/args/{name}")
        elif model.model_config.get("extra") != "allow":
            yield Flaw(f"#/args/{name}", "the kind has no such arg")
    for field_name, field in model.model_fields.items():
        if field.is_required() and not mapping.keys() & {*arg_names(field_name, field)}:
            yield Flaw(f"#/args/{field.alias or field_name}", "the kind needs it")


def _value_flaws(value: Any, field: FieldInfo, pointer: str) -> Iterator[Flaw]:
    if is_constant(value):
        adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
        try:
            adapter.validate_json(documents.encode(constant(value)))
        except ValidationError as error:
            yield from flaws(error, pointer)
