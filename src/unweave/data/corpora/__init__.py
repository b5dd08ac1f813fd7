"""Public corpora of sound. The folder is the registry: one file, one corpus.

A corpus file has `clips(root)`, which turns the published folder layout into rows, and `PROTOCOL`, which
says how the corpus is mixed for evaluation and who says so. Its docstring shows the tree that it expects.
Nothing is downloaded.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import Protocol as Shape
from typing import cast

from unweave.data.corpora.protocol import Found, Protocol
from unweave.errors import UnknownNameError

_SHARED = ("audiosep", "protocol", "rows")  # what several corpora use


class Corpus(Shape):
    """One file of this folder."""

    __doc__: str  # the expected tree, the licence, and where the layout is documented
    PROTOCOL: Protocol

    def clips(self, root: Path) -> Found:
        """What is below `root`, the folder that the docstring shows.

        Raises:
            UsageError: a metadata file is missing or malformed (file and line are named), or names a file
                outside of `root`.
        """
        ...


def available() -> list[str]:
    """Names of the corpora.

    >>> "esc50" in available()
    True
    """
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if name not in _SHARED)


def load(name: str) -> Corpus:
    """The corpus of this name.

    Raises:
        UnknownNameError: there is none; the nearest name is suggested.
    """
    if name not in available():
        raise UnknownNameError("corpus", name, available())
    return cast(Corpus, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))
