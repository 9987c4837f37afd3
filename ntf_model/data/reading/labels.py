"""Which class a value or a folder's name stands for. What is not certain is an error, never a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foreign.classes import CLASSES, FAKE, OTHER_NAMES, PLAIN_NAMES, REAL, accepted_names, label_of, plain, word
from ntf_model.errors import InputError

__all__ = ["CLASSES", "FAKE", "REAL", "LabelRule", "accepted_names", "plain"]


@dataclass(frozen=True)
class LabelRule:
    """How labels are read. `given` is what `--labels` says (a name as `plain` writes it, and its label); empty: the words above, False and
    0 for real, True and 1 for fake."""

    given: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> LabelRule:
        """`real=A,fake=B` (a class several times for several names; None: no such option). InputError for anything else."""
        if not text:
            return cls()
        given: dict[str, int] = {}
        for pair in text.split(","):
            kind, equals, name = (part.strip() for part in pair.partition("="))
            if kind.casefold() not in CLASSES or not equals or not name:
                raise InputError(f"--labels {text!r} cannot be read", "Write real=NAME,fake=NAME, such as real=0,fake=1")
            label = CLASSES.index(kind.casefold())
            if given.get(plain(name), label) != label:
                raise InputError(f"--labels {text!r} says that {name!r} is both real and fake", "Give each name to one class")
            given[plain(name)] = label
        if set(given.values()) != {REAL, FAKE}:
            raise InputError(f"--labels {text!r} does not name both classes", "Write real=NAME,fake=NAME, such as real=0,fake=1")
        return cls(given)

    def of_value(self, value: Any, where: str, names: Sequence[str] | None = None) -> int:
        """The label of a value: text, a boolean or an integer. `names` are the classes of a Hugging Face `ClassLabel`, whose integers are
        places among them. Raises InputError, beginning with `where`, for a value that is not certain."""
        if names is not None and _is_integer(value):
            if not 0 <= value < len(names):
                raise InputError(f"{where}: the label {value} is none of the classes {', '.join(names)}", "Leave out rows without a label")
            label = self._of_text(names[int(value)])
            return self._known(self.given.get(str(int(value))) if label is None else label, names[int(value)], where)
        if isinstance(value, (bool, np.bool_)):
            return self._known(self.given.get(str(bool(value)).casefold()) if self.given else int(value), value, where)
        if _is_integer(value):
            known = self.given or {"0": REAL, "1": FAKE}
            return self._known(known.get(str(int(value))), value, where)
        return self._known(self._of_text(value) if isinstance(value, str) else None, value, where)

    def of_folder(self, name: str) -> tuple[int | None, bool]:
        """The label that a folder of this name gives to what lies in it, or None, and whether its name is a plain one."""
        if self.given:
            return self.given.get(plain(name)), True
        return label_of(name)

    def _of_text(self, text: str) -> int | None:
        if self.given:
            return self.given.get(plain(text))
        return {"0": REAL, "1": FAKE, **PLAIN_NAMES, **OTHER_NAMES}.get(word(text))

    def _known(self, label: int | None, value: Any, where: str) -> int:
        if label is not None:
            return label
        if self.given:
            raise InputError(f"{where}: --labels does not say what {value!r} is", f"It has {', '.join(self.given)}: add this one")
        fix = 'Use 0 or "real", 1 or "fake", or say which value is which, such as --labels real=0,fake=1'
        raise InputError(f"{where}: the label {value!r} is neither real nor fake", fix)


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
