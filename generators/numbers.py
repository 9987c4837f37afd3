"""Settings whose numbers are numbers: pydantic alone takes `true` for 1."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationInfo, field_validator


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
