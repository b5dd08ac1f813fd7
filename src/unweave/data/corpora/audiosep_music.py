"""AudioSep's 5,004 mixtures of MUSIC, asked for by instrument.

The tree, the licence and what is not verified: see `audiosep`.
"""

from pathlib import Path

from unweave.data.corpora.audiosep import listed, numbered, protocol
from unweave.data.corpora.protocol import Found

PROTOCOL = protocol("5,004 mixtures of ten instruments; the paper's mean is over instruments")


def clips(root: Path) -> Found:
    """What is asked for in every line, and the list of mixtures."""
    return listed(root, "music", "caption", numbered("music"), "idx")
