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
    if rig.ears is None or getattr(rig.separator, "takes_examples", False):
        return tuple(queries)
    found: list[Query] = []
    for query in queries:
        if query.example is None or query.text.strip():
            found.append(query)
            continue
        name = heard_as(query.example, rig.ears).text
        if any(name.casefold() == other.text.strip().casefold() for other in [*queries, *found]):
            raise QueryError(
                f"the example is heard as {name!r}, which is asked already; leave one of the two out"
            )
        found.append(replace(query, text=name))
    return tuple(found)


def heard_as(example: Audio, ears: Ears) -> Heard:
    """The name of what sounds in a clip, the most certain one.

    Raises:
        QueryError: nothing in it is recognised.
    """
    heard = ears.hear(example)
    if not heard:
        raise QueryError(
            f"nothing is recognised in the example of {example.duration:.1f} s; take a longer or clearer "
            f"stretch of the sound alone, or say in words what it is"
        )
    return max(heard, key=lambda one: one.score)
