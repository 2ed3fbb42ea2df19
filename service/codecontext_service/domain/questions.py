"""What may be asked about the names of a context, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from .events import MimePart

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Completions:
    """What could stand at a place in the code, and the characters that each of it replaces."""

    matches: Sequence[str]
    cursor_start: int
    cursor_end: int


@dataclass(frozen=True)
class Description:
    """What is known of a name; nothing if it is unknown."""

    parts: Sequence[MimePart] = ()


@dataclass(frozen=True)
class Question(Generic[AnswerT]):
    """Asks about the name at a place in the code: `cursor` is a number of characters from its begin."""

    code: str
    cursor: int

    answer_type: ClassVar[type]
    capability: ClassVar[str]
    """What a runtime must have to answer, by the names of the API."""


@dataclass(frozen=True)
class Completion(Question[Completions]):
    """Asks what could stand there."""

    answer_type = Completions
    capability = "complete"


@dataclass(frozen=True)
class Inspection(Question[Description]):
    """Asks what is known of it."""

    with_source: bool = False

    answer_type = Description
    capability = "inspect"
