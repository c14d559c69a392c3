"""Frozen data that is quick to make, for what each delivery makes anew.

`dataclass(frozen=True)` sets each field by a call of `object.__setattr__`: of the dozen objects that a delivery needs that
was a twentieth of its whole cost. Here the type checker alone forbids changes; all else is as in a frozen dataclass.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def swift(cls: type[_T]) -> type[_T]:
    """Make a dataclass with slots, equality and a hash, frozen for the type checker."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
