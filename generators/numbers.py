"""Settings whose numbers are numbers: pydantic alone takes `true` for 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from generators.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class StrictNumbers(BaseModel):
    """A model that refuses true and false where a field is a number."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        holds_truth = isinstance(value, bool) or (isinstance(value, list | tuple) and any(isinstance(item, bool) for item in value))
        if holds_truth and info.field_name:
            types = _types(cls.model_fields[info.field_name].annotation)
            if types & {int, float} and bool not in types:
                raise ValueError("true and false are no numbers")
        return value


def _types(annotation: Any) -> set[Any]:
    """Every type that an annotation names, at any depth."""
    return {annotation} if not get_args(annotation) else {kind for part in get_args(annotation) for kind in _types(part)}


def parsed(model: type[Model], values: Mapping[str, Any], title: str, what: str) -> Model:
    """`values` as `model`. InputError with the first thing that is wrong, and the names that there are."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or what
        known = ", ".join(model.model_fields) or "none"
        value = "" if first["type"] in ("extra_forbidden", "missing") else f", not {first['input']!r}"
        raise InputError(f"{title}: {key}: {first['msg']}{value}", f"Its {what} are: {known}") from None
