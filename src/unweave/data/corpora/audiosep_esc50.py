"""AudioSep's 2,000 mixtures of ESC-50, asked for by class.

The tree, the licence and what is not verified: see `audiosep`.
"""

from pathlib import Path

from unweave.data.corpora.audiosep import listed, numbered, protocol
from unweave.data.corpora.protocol import Found

PROTOCOL = protocol("2,000 mixtures, each recording once")


def clips(root: Path) -> Found:
    """What is asked for in every line, and the list of mixtures."""
    return listed(root, "esc50", "caption", numbered("esc50"), "idx")
