"""Reads raw objects; every error names the field by its full path, and what to set."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from modelworker_operator.errors import InvalidSpec
from modelworker_operator.quantities import quantity

E = TypeVar("E", bound=StrEnum)


class Reader:
    """One object of the spec; each method raises InvalidSpec for a value of the wrong kind."""

    def __init__(self, raw: Any, path: str) -> None:
        if not isinstance(raw, Mapping):
            raise InvalidSpec(f"{path} must be an object; correct it with `kubectl edit`")
        self._raw = raw
        self.path = path

    def has(self, key: str) -> bool:
        """Whether the field is set."""
        return self._raw.get(key) is not None

    def child(self, key: str) -> "Reader":
        """The object in a field; an empty one if it is not set."""
        return Reader(self._raw.get(key) or {}, f"{self.path}.{key}")

    def text(self, key: str) -> str | None:
        """A string; None if it is not set or empty."""
        value = self._raw.get(key)
        if value is not None and not isinstance(value, str):
            raise InvalidSpec(f"{self.path}.{key} must be a string, not {value!r}; correct it")
        return value or None

    def required(self, key: str) -> str:
        """A string that has to be there."""
        value = self.text(key)
        if value is None:
            raise InvalidSpec(f"{self.path}.{key} is missing; set it")
        return value

    def choice(self, key: str, default: str, *others: str) -> str:
        """One of some words."""
        value = self.text(key) or default
        if value not in (default, *others):
            allowed = ", ".join((default, *others))
            raise InvalidSpec(f"{self.path}.{key} is {value!r}; set one of {allowed}")
        return value

    def word(self, key: str, words: Mapping[str, E]) -> E | None:
        """What one of some words stands for; None if it is not set."""
        value = self.text(key)
        if value is not None and value not in words:
            raise InvalidSpec(f"{self.path}.{key} is {value!r}; set one of {', '.join(words)}")
        return words[value] if value else None

    def needed(self, key: str, words: Mapping[str, E]) -> E:
        """The same of a field that has to be there."""
        found = self.word(key, words)
        if found is None:
            raise InvalidSpec(f"{self.path}.{key} is missing; set one of {', '.join(words)}")
        return found

    def number(self, key: str, default: int, *, least: int = 0) -> int:
        """A whole number."""
        value = self._raw.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidSpec(f"{self.path}.{key} is {value!r}; set a whole number >= {least}")
        return value

    def positive(self, key: str) -> float | None:
        """A number above 0; None if it is not set."""
        value = self._raw.get(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise InvalidSpec(f"{self.path}.{key} is {value!r}; set a number > 0")
        return float(value)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self._raw.get(key)
        if value is not None and not isinstance(value, bool):
            raise InvalidSpec(f"{self.path}.{key} is {value!r}; set true or false")
        return default if value is None else value

    def quantity(self, key: str) -> str | None:
        """An amount of whole bytes above 0, as it is written; None if it is not set."""
        value = self._raw.get(key)
        if value is None:
            return None
        amount = quantity(str(value))
        if not amount.is_finite() or amount < 1 or amount != int(amount):
            raise InvalidSpec(f"{self.path}.{key} is {value!r}; set whole bytes, such as 512Mi")
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._raw.get(key) or ()
        if isinstance(value, str) or not all(isinstance(item, str) for item in value):
            raise InvalidSpec(f"{self.path}.{key} must be a list of strings; correct it")
        return tuple(value)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """The object in a field as it is."""
        value = self.child(key)
        return dict(value._raw)  # noqa: SLF001 - the same class

    def objects(self, key: str) -> tuple[Mapping[str, Any], ...]:
        """A list of objects as they are."""
        value = self._raw.get(key) or ()
        if isinstance(value, str) or not all(isinstance(item, Mapping) for item in value):
            raise InvalidSpec(f"{self.path}.{key} must be a list of objects; correct it")
        return tuple(dict(item) for item in value)
