"""Strict reading of configs: the dataclass is the schema.

An unknown key is refused with the nearest known one, and a value is checked by the dataclass itself.
"""

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from unweave.errors import UnknownNameError, UsageError

T = TypeVar("T")


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Build the dataclass `kind` from plain values, nested dataclasses and tuples included.

    Raises:
        UnknownNameError: a key that `kind` does not have.
        UsageError: a value of another type than the field's, or one that `kind` itself refuses.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Shape:
    ...     widths: tuple[int, ...] = (1,)
    >>> from_dict(Shape, {"widths": [2, 3]})
    Shape(widths=(2, 3))
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise UnknownNameError(f"{kind.__name__} setting", name, names)
    try:
        return kind(**{name: _convert(hints[name], name, value) for name, value in values.items()})
    except (TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{kind.__name__}: {error}") from error


def read_toml(kind: type[T], path: Path) -> T:
    """Read `path` as a `kind`.

    Raises:
        UsageError: no such file, not TOML, or values that `kind` refuses.
    """
    try:
        return from_dict(kind, tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(f"no config file {str(path)!r}; the ones that come along are in configs/") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def _convert(hint: Any, name: str, value: Any) -> Any:
    if typing.get_origin(hint) is types.UnionType and types.NoneType in typing.get_args(hint):
        (inner,) = (one for one in typing.get_args(hint) if one is not types.NoneType)
        return None if value is None else _convert(inner, name, value)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(typing.cast("type[Any]", hint), value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{name} wants a list, got {value!r}")
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, name, item) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wrong = isinstance(hint, type) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    )
    if wrong:
        raise UsageError(f"{name} wants {hint.__name__}, got {value!r}")
    return value
