"""AudioSep's 4,820 mixtures of the test set of AudioCaps, asked for by caption.

The tree, the licence and what is not verified: see `audiosep`.
"""

from pathlib import Path

from unweave.data.corpora.audiosep import listed, numbered, protocol
from unweave.data.corpora.protocol import Found

PROTOCOL = protocol("4,820 mixtures, asked for by caption")


def clips(root: Path) -> Found:
    """What is asked for in every line, and the list of mixtures."""
    return listed(root, "audiocaps", "caption", numbered("audiocaps"), "idx")
