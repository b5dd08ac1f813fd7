"""Take a recording apart in memory: ask for sounds in words, or for all of them, and get the rest as well."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from unweave import audio, hub
from unweave.errors import AudioError, QueryError
from unweave.pipeline import auto, examples, tracks
from unweave.pipeline import rig as rigs
from unweave.pipeline.apart import Apart, Recording
from unweave.pipeline.rig import Rig
from unweave.pipeline.shelf import Shelf
from unweave.signal import consistency
from unweave.types import Audio, Query, Separator, Stem


def separate(
    source: str | Path | Audio,
    queries: Sequence[str | Query] | None = None,
    *,
    model: str | Path | Separator | Rig = hub.DEFAULT,
    device: str = "auto",
    limits: auto.Limits | None = None,
) -> list[Stem]:
    """One stem per query, in order, and last the residual, what no query asked for.

    Every stem has the rate, channels and length of the recording, and together they add up to it. A sound
    that is most likely not there has a low score and a silent stem; it needs a listener to know that, and
    one comes along with every model that is named. Without queries the listener chooses: one stem for each
    sound it hears, the most certain first, under different names. Warns (UserWarning) when it hears none, or
    more than there is room for.

    Args:
        source: a file, or sound in memory.
        queries: plain words, or `Query` for an example, for spans of time, or to remove. None: all there is.
        model: a published name, a .safetensors file, a loaded separator, which has no listener, or one with,
            from `pipeline.rig.load`.
        device: "auto", "cpu", "cuda", ...; a loaded separator stays where it is.
        limits: of the choice without queries.

    Raises:
        QueryError: no query, an empty one, the same one twice, or an example that is not recognised.
        UsageError: no queries and no listener.
        AudioError: the file cannot be read, or a sample is not a number.
        ModelError: the weights are missing or damaged.
        DeviceError: no such device, or it ran out of memory.
    """
    asked = None if queries is None else as_queries(queries)
    return _stems(_recording(source), asked, rigs.ready(model, device), limits)


def extract(
    source: str | Path | Audio,
    query: str | Query,
    *,
    model: str | Path | Separator | Rig = hub.DEFAULT,
    device: str = "auto",
) -> Audio:
    """Only the sound asked for, at the recording's rate, channels, length and level.

    Silence where it is most likely not there: `separate` says how likely that is.

    Arguments and errors as for `separate`. ``extract(...) + remove(...)`` is the recording.
    """
    (asked,) = as_queries([query])
    if not asked.keep:
        raise QueryError(f"extract keeps {asked.text!r}, but the query says keep=False; call remove for that")
    return _stems(_recording(source), [asked], rigs.ready(model, device))[0].audio


def remove(
    source: str | Path | Audio,
    query: str | Query,
    *,
    model: str | Path | Separator | Rig = hub.DEFAULT,
    device: str = "auto",
) -> Audio:
    """Everything but the sound asked for, at the recording's rate, channels, length and level.

    Arguments and errors as for `separate`.
    """
    (asked,) = as_queries([query])
    asked = replace(asked, keep=False)
    return _stems(_recording(source), [asked], rigs.ready(model, device))[0].audio


def as_queries(queries: Sequence[str | Query]) -> tuple[Query, ...]:
    """Words and queries as queries, checked together.

    Raises:
        QueryError: a bare string, no query at all, an empty one, or the same one twice.

    >>> as_queries(["rain"])[0].text
    'rain'
    """
    if isinstance(queries, str | Query):
        given = queries if isinstance(queries, str) else queries.text
        raise QueryError(
            f"wanted is a list of queries, got one, {given!r}; put it into brackets: [{given!r}]"
        )
    asked = tuple(Query(query) if isinstance(query, str) else query for query in queries)
    if not asked:
        raise QueryError("no query was given; name at least one sound, for example ['dog barking']")
    seen: list[Query] = []
    for query in asked:
        plain = replace(query, text=_plain(query.text), not_text=_plain(query.not_text))
        if plain in seen:
            name = repr(query.text) if query.text else "the same example"
            raise QueryError(f"{name} is asked twice; leave one out, or say how the two differ")
        seen.append(plain)
    return asked


def _plain(words: str) -> str:
    return " ".join(words.split()).casefold()


def _recording(source: str | Path | Audio) -> Audio:
    if not isinstance(source, Audio):
        return audio.read(Path(source))
    if not source.samples.isfinite().all():
        raise AudioError(
            "the recording has samples that are NaN or infinite; wanted are numbers, full scale = 1"
        )
    return source


def _stems(
    recording: Audio, queries: Sequence[Query] | None, rig: Rig, limits: auto.Limits | None = None
) -> list[Stem]:
    samples, rate = recording.samples, recording.sample_rate
    with Shelf(len(samples)) as shelf:
        blocks = samples.split(tracks.BLOCK, dim=1)
        apart = Apart(Recording(lambda: blocks, rate, recording.duration), rig, shelf)
        if queries is None:
            for said in auto.split(apart, limits or auto.Limits()):
                warnings.warn(said, UserWarning, stacklevel=3)
        else:
            apart.take(examples.in_words(queries, rig))
        parts, rest = samples.new_empty(len(apart.parts), *samples.shape), torch.empty_like(samples)
        done = 0
        for mixture, taken in apart.pieces():
            here = slice(done, done + mixture.shape[-1])
            parts[..., here], rest[:, here] = taken, consistency.residual(mixture, taken)
            done = here.stop
    stems = [
        Stem(part.query, Audio(stem, rate), part.verdict.score, part.spans)
        for part, stem in zip(apart.parts, parts, strict=True)
    ]
    return [*stems, Stem(None, Audio(rest, rate), 1.0)]
