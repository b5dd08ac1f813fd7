"""AudioSep's 5,225 mixtures of the evaluation set of Clotho, asked for by caption.

The tree, the licence and what is not verified: see `audiosep`.
"""

from pathlib import Path

from unweave.data.corpora.audiosep import listed, numbered, protocol
from unweave.data.corpora.protocol import Found

PROTOCOL = protocol("5,225 mixtures with two other clips each, asked for by caption")


def clips(root: Path) -> Found:
    """What is asked for in every line, and the list of mixtures."""
    return listed(root, "clotho", "caption", numbered("clotho"), "idx")
