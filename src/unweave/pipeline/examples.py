"""Examples in words: an engine that listens to words is told what a clip sounds like."""

from collections.abc import Sequence
from dataclasses import replace

from unweave.errors import QueryError
from unweave.pipeline.rig import Ears, Rig
from unweave.types import Audio, Heard, Query


def in_words(queries: Sequence[Query], rig: Rig) -> tuple[Query, ...]:
    """Queries with a name for each that has an example only; the example stays with it.

    An engine with the attribute `takes_examples` listens to examples itself and gets them as they are; so
    does one without ears.

    Raises:
        QueryError: an example is not recognised, or is recognised as what another query asks for.
    """
    if rig.ears is None or _takes_examples(rig):
        return tuple(queries)
    found: list[Query] = []
    for query in queries:
        if query.example is None or query.text.strip():
            found.append(query)
            continue
        name = heard_as(query.example, rig.ears, [*queries, *found]).text
        found.append(replace(query, text=name))
    return tuple(found)


def is_listened_to(query: Query, rig: Rig) -> bool:
    """Whether the engine hears the example of `query`, and does not only read its name."""
    return query.example is not None and (_takes_examples(rig) or not query.text.strip())


def _takes_examples(rig: Rig) -> bool:
    return bool(getattr(rig.separator, "takes_examples", False))


def heard_as(example: Audio, ears: Ears, others: Sequence[Query] = ()) -> Heard:
    """The name of what sounds in a clip, the most certain one.

    Raises:
        QueryError: nothing in it is recognised, or it is what one of the `others` asks for.
    """
    heard = ears.hear(example)
    if not heard:
        raise QueryError(
            f"nothing is recognised in the example of {example.duration:.1f} s; take a longer or clearer "
            f"stretch of the sound alone, or say in words what it is"
        )
    best = max(heard, key=lambda one: one.score)
    if any(_plain(best.text) == _plain(other.text) for other in others):
        raise QueryError(
            f"the example is heard as {best.text!r}, which is asked already; leave one of the two out"
        )
    return best


def _plain(words: str) -> str:
    return " ".join(words.split()).casefold()
