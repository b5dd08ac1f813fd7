"""Every exception Unweave raises on purpose, and the exit code of each.

UnweaveError                1  caught as one family
├── UsageError              2  the request itself makes no sense; nothing was touched
│   ├── QueryError          2  an empty, doubled or unusable query
│   └── UnknownNameError    2  a name looked up in a table that does not have it
├── BatchError              3  some inputs of a batch failed, the others are done
├── AudioError              4  the input cannot be read, or is not sound
├── ModelError              5  weights or a text encoder are missing, damaged or unreachable
│   └── ChatError           5  a language model is down, too slow, or answers what was not asked
├── DeviceError             6  the device is not there or ran out of memory
└── OutputError             7  the output exists, or cannot be written
"""

import difflib
from collections.abc import Iterable


class UnweaveError(Exception):
    """What was given, what was wanted, and what to do about it."""

    exit_code = 1

    def __str__(self) -> str:
        # KeyError quotes its argument; a message for people should not be quoted.
        return str(self.args[0]) if self.args else ""


class UsageError(UnweaveError, ValueError):
    """The request itself makes no sense; nothing was touched."""

    exit_code = 2


class QueryError(UsageError):
    """An empty, doubled or unusable query."""


class UnknownNameError(UsageError, KeyError):
    """A name looked up in a table that does not have it.

    >>> print(UnknownNameError("engine", "opensp", ["opensep", "zerosep"]))
    no engine named 'opensp'. Did you mean 'opensep'? Known: opensep, zerosep.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"no {kind} named {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class BatchError(UnweaveError):
    """Some inputs of a batch failed; the others are done."""

    exit_code = 3


class AudioError(UnweaveError, ValueError):
    """The input cannot be read, or what was read is not sound."""

    exit_code = 4


class ModelError(UnweaveError):
    """Weights or a text encoder are missing, damaged or unreachable."""

    exit_code = 5


class ChatError(ModelError):
    """A language model is down, too slow, or answers what was not asked."""


class DeviceError(UnweaveError):
    """The device is not there or ran out of memory."""

    exit_code = 6


class OutputError(UnweaveError, OSError):
    """The output exists already, or cannot be written."""

    exit_code = 7
