"""Take any recording apart: say in plain words what to keep, get it and everything else.

>>> import unweave
>>> dog = unweave.extract("street.wav", "a dog barking")  # doctest: +SKIP
>>> unweave.write("dog.wav", dog)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from unweave.types import Audio, Query, Stem

if TYPE_CHECKING:
    from unweave.audio import read, write
    from unweave.pipeline.edit import extract, remove, separate
    from unweave.pipeline.remix import do
    from unweave.separators import load

__version__ = "0.1.0"
__all__ = [
    "Audio",
    "Query",
    "Stem",
    "__version__",
    "do",
    "extract",
    "load",
    "read",
    "remove",
    "separate",
    "write",
]

# Imported when first asked for: torch alone takes seconds, and `unweave --help` does without it.
_LATER = {
    "do": "unweave.pipeline.remix",
    "extract": "unweave.pipeline.edit",
    "load": "unweave.separators",
    "read": "unweave.audio",
    "remove": "unweave.pipeline.edit",
    "separate": "unweave.pipeline.edit",
    "write": "unweave.audio",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'unweave' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
