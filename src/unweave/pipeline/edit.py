"""Take a recording apart in memory: ask for sounds in words, get them and everything else."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from unweave import audio, hub, separators
from unweave.errors import AudioError, QueryError
from unweave.pipeline import judge
from unweave.pipeline.longform import Chunked
from unweave.pipeline.native import Native
from unweave.signal import consistency
from unweave.types import Audio, Query, Separator, Stem


def separate(
    source: str | Path | Audio,
    queries: Sequence[str | Query],
    *,
    model: str | Path | Separator = hub.DEFAULT,
    device: str = "auto",
) -> list[Stem]:
    """One stem per query, in order, and last the residual, what no query asked for.

    Every stem has the rate, channels and length of the recording, and together they add up to it.

    Args:
        source: a file, or sound in memory.
        queries: plain words, or `Query` for an example, for spans of time, or to remove.
        model: a published name, a .safetensors file, or a loaded separator.
        device: "auto", "cpu", "cuda", ...; a loaded separator stays where it is.

    Raises:
        QueryError: no query, an empty one, or the same one twice.
        AudioError: the file cannot be read, or a sample is not a number.
        ModelError: the weights are missing or damaged.
        DeviceError: no such device, or it ran out of memory.
    """
    asked = as_queries(queries)
    recording = _recording(source)
    stems = _answers(recording, asked, model, device)  # (Q, C, T)
    rate = recording.sample_rate
    sure = judge.scores(recording.samples, stems, rate)
    tracks = [
        Stem(query, Audio(stem, rate), score, query.spans)
        for query, stem, score in zip(asked, stems, sure, strict=True)
    ]
    rest = consistency.residual(recording.samples, stems)
    return [*tracks, Stem(None, Audio(rest, rate), 1.0)]


def extract(
    source: str | Path | Audio,
    query: str | Query,
    *,
    model: str | Path | Separator = hub.DEFAULT,
    device: str = "auto",
) -> Audio:
    """Only the sound asked for, at the recording's rate, channels, length and level.

    Arguments and errors as for `separate`. ``extract(...) + remove(...)`` is the recording.
    """
    (asked,) = as_queries([query])
    if not asked.keep:
        raise QueryError(f"extract keeps {asked.text!r}, but the query says keep=False; call remove for that")
    return _edited(source, asked, model, device)


def remove(
    source: str | Path | Audio,
    query: str | Query,
    *,
    model: str | Path | Separator = hub.DEFAULT,
    device: str = "auto",
) -> Audio:
    """Everything but the sound asked for, at the recording's rate, channels, length and level.

    Arguments and errors as for `separate`.
    """
    (asked,) = as_queries([query])
    return _edited(source, replace(asked, keep=False), model, device)


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


def _edited(source: str | Path | Audio, query: Query, model: str | Path | Separator, device: str) -> Audio:
    recording = _recording(source)
    return Audio(_answers(recording, (query,), model, device)[0], recording.sample_rate)


def _recording(source: str | Path | Audio) -> Audio:
    if not isinstance(source, Audio):
        return audio.read(Path(source))
    if not source.samples.isfinite().all():
        raise AudioError(
            "the recording has samples that are NaN or infinite; wanted are numbers, full scale = 1"
        )
    return source


def _answers(
    recording: Audio, queries: Sequence[Query], model: str | Path | Separator, device: str
) -> Tensor:
    engine = _loaded(str(model), device) if isinstance(model, str | Path) else model
    return Chunked(Native(engine, recording.sample_rate)).separate(recording.samples, queries)


@functools.lru_cache(maxsize=2)
def _loaded(model: str, device: str) -> Separator:
    """Loading reads and checks the weights, so the last two engines are kept for the next call."""
    return separators.load(model, device)
