"""Opening a version, where its manifest or that of another version may be damaged or lost.

Lance opens a manifest of zeros as an empty version 0, and cannot list versions while one of them is damaged. So each version is looked at
by itself here.
"""

from __future__ import annotations

import warnings
from datetime import datetime
from typing import Any

import lance

from pipelines.place import Place
from pipelines.store.damage import StoreDamaged, damaged, is_reading_fault, reason_of
from pipelines.store.versions.records import Records


class StoreWarning(UserWarning):
    """What a command says about a store and goes on."""


class Manifests:
    """The manifests of one dataset, and which of them can be read."""

    def __init__(self, name: str, place: Place, records: Records):
        self._name = name
        self._place = place
        self._records = records
        self._properties: dict[int, tuple[Any, dict[str, str]]] = {}  # of the versions that were opened, with the state of the manifest
        self._opened: tuple[Any, lance.LanceDataset] | None = None  # the last one, with the state of its manifest then

    def numbers(self) -> list[int]:
        """The versions that have a manifest, damaged or not, oldest first."""
        return list(self._records.files())

    def fault(self, number: int) -> str | None:
        """What is wrong with the manifest of a version; None if it can be read."""
        if number in self._properties:
            return None
        try:
            self._open(number)
        except StoreDamaged as error:
            return error.message
        return None

    def lost(self) -> list[int]:
        """The versions that are recorded and have no manifest any more, oldest first."""
        return sorted(set(self._records.numbers()) - set(self.numbers()))

    def readable(self) -> list[int]:
        """The versions that can be read, oldest first, with a warning about the others. StoreDamaged if there is none."""
        faults = {number: self.fault(number) for number in self.numbers()}
        problems = [f"version {number} is lost (its manifest is not there)" for number in self.lost()]
        problems += [fault for fault in faults.values() if fault]
        numbers = [number for number, fault in faults.items() if not fault]
        if not numbers:
            raise damaged(self._name, f"no version of {self._name} can be read: {'; '.join(problems)}")
        if problems:
            warnings.warn(f"{'; '.join(problems)}. `ntf store mend {self._name}` sets it aside", StoreWarning, stacklevel=3)
        return numbers

    def open(self, number: int) -> lance.LanceDataset:
        """A version by number, which has a manifest. StoreDamaged if it cannot be read."""
        return self._open(number)

    def newest(self) -> lance.LanceDataset:
        """The newest version that can be read, with a warning if a newer one is damaged or lost. StoreDamaged if there is none."""
        numbers = self.numbers()
        problems = [f"version {number} is lost (its manifest is not there)" for number in self.lost() if number > max(numbers, default=0)]
        for number in reversed(numbers):
            try:
                dataset = self._open(number)
            except StoreDamaged as error:
                problems.append(error.message)
                continue
            if problems:
                warnings.warn(f"{'; '.join(problems)}; version {number} of {self._name} is taken in its place", StoreWarning, stacklevel=2)
            return dataset
        raise damaged(self._name, f"no version of {self._name} can be read: {'; '.join(problems)}")

    def require_writable(self) -> None:
        """StoreDamaged if a version is newer than the newest that can be read: Lance cannot write upon it."""
        numbers = self.numbers()
        fault = self.fault(numbers[-1]) if numbers else None
        if fault:
            raise damaged(self._name, fault)

    def facts(self, dataset: lance.LanceDataset) -> tuple[datetime, int, dict[str, str]]:
        """When an opened version was made, its number of rows, and its properties."""
        entry: Any = dataset.get_version()
        return entry["timestamp"], int(entry["metadata"].get("total_rows", 0)), dict(self._properties[dataset.version][1])

    def _open(self, number: int) -> lance.LanceDataset:
        """A version, from its manifest. One with ten thousands of fragments takes long to open, and a build asks for it many times: so the
        last one is kept, as long as its manifest is the same file."""
        state = self._records.state(number)
        if self._opened is not None and self._opened[0] == (number, state):
            return self._opened[1]
        try:
            dataset = lance.dataset(self._place.location, version=number)
            if dataset.version != number:
                raise ValueError("it is of another version")
            if self._properties.get(number, (None,))[0] != state:  # as long as the version, where a build began with many shards
                transaction = dataset.read_transaction(number)
                self._properties[number] = (state, dict((transaction.transaction_properties if transaction else None) or {}))
        except BaseException as error:
            if not is_reading_fault(error):
                raise
            raise damaged(self._name, f"the manifest of version {number} of {self._name} is damaged ({reason_of(error)})") from None
        self._opened = ((number, state), dataset)
        return dataset
