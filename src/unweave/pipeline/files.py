"""From file to files, streaming: a recording of any length in bounded memory, all of its tracks or none."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

import unweave
from unweave import hub
from unweave.audio import AudioInfo, FileFormat, Reader, open_reader, output_format
from unweave.errors import OutputError, UsageError
from unweave.pipeline import auto, events, examples, judge, naming, sidecar, tracks
from unweave.pipeline.apart import Apart, Part, Progress, Recording
from unweave.pipeline.edit import as_queries
from unweave.pipeline.rig import Ears, Rig
from unweave.pipeline.shelf import Shelf
from unweave.signal.consistency import residual
from unweave.types import Query, Separator


@dataclass(frozen=True)
class OutputOptions:
    """How the tracks are written."""

    format: str | None = None  # extension, "wav"; None: as the recording
    subtype: str | None = None  # sample format, "PCM_24"; None: as the recording
    filename: str = naming.DEFAULT_TEMPLATE  # fields: naming.FIELDS
    overwrite: bool = False  # replace what is there
    skip_existing: bool = False  # leave a recording alone that was done before


@dataclass(frozen=True)
class _Job:
    source: Path
    reader: Reader
    target: FileFormat
    rig: Rig
    options: OutputOptions
    progress: Progress | None
    automatic: bool = False
    began: float = field(default_factory=time.perf_counter)


def separate_file(
    source: Path,
    queries: Sequence[Query] | None,
    out: Path,
    rig: Rig,
    options: OutputOptions,
    *,
    limits: auto.Limits | None = None,
    progress: Progress | None = None,
) -> sidecar.Separation | None:
    """Write one track per query, the residual and `separation.json` into the folder `out`.

    ``01-rain.wav``, ``residual.wav``: every track has the rate, channels and number of samples of the
    recording, and together they add up to it. All files appear together at the end; on failure or
    interruption none does, and folders made for them are gone again.

    Without queries the listener chooses the sounds, and what it heard when is written as well, see `events`.

    Args:
        source: the recording.
        queries: what to listen for; None: all there is.
        out: the folder for this one recording, made where missing; `naming.track_name` suggests a name.
        rig: the engine, and ears, without which nothing is silenced or found by itself.
        options: format and names.
        limits: of the choice without queries.
        progress: told seconds of sound done, and in all where known, in every pass that listens or separates.

    Returns:
        What the sidecar says; None where `skip_existing` found the same work done before.

    Raises:
        QueryError: as from `edit.separate`.
        UsageError: a file name template that cannot be used, an unknown format, or neither queries nor ears.
        AudioError: the recording cannot be read.
        DeviceError: the device ran out of memory.
        OutputError: something is there already, would replace the recording, or cannot be written.
    """
    asked = None if queries is None else examples.in_words(as_queries(queries), rig)
    with open_reader(source) as reader:
        target = output_format(reader.info, options.format, options.subtype)
        job = _Job(source, reader, target, rig, options, progress, asked is None)
        # What cannot be named or is in the way is found early, where that is possible.
        paths, notes = _names(job, out, asked or [Query("first"), Query("second")]), [sidecar.NAME]
        if asked is None:
            paths, notes = paths[-1:], [sidecar.NAME, events.LABELS, events.EVENTS]
        if options.skip_existing:
            state = _before(out / sidecar.NAME, source, asked, rig)
            if state == "done":
                return None
            job = replace(job, options=replace(options, overwrite=options.overwrite or state == "unfinished"))
        _refuse(job, [*paths, *(out / note for note in notes)])
        with tracks.folder(out), Shelf(reader.info.channels, out) as shelf:
            apart, said = _apart(job, shelf), []
            if asked is None:
                said = auto.split(apart, limits or auto.Limits())
                paths = _names(job, out, [part.query for part in apart.parts])
                _refuse(job, paths)
            else:
                apart.take(asked)
            return _write(job, apart, paths, notes, said)


def edit_file(
    source: Path,
    query: Query,
    out: Path,
    rig: Rig,
    options: OutputOptions,
    *,
    progress: Progress | None = None,
) -> sidecar.Separation:
    """Write one file: the sound asked for, or with ``keep=False`` everything but it.

    Args, errors and guarantees as for `separate_file`, but `out` is the file itself: its extension
    chooses the format unless `options` do, and there is no sidecar next to it.

    Returns:
        What a sidecar would say; one track, no residual.
    """
    asked = examples.in_words(as_queries([query]), rig)
    with open_reader(source) as reader:
        target = output_format(reader.info, options.format or out.suffix[1:].lower() or None, options.subtype)
        job = _Job(source, reader, target, rig, options, progress)
        _refuse(job, [out])
        with tracks.folder(out.parent), Shelf(reader.info.channels, out.parent) as shelf:
            apart = _apart(job, shelf)
            apart.take(asked)
            return _write(job, apart, [out], [], [])


def _names(job: _Job, out: Path, queries: Sequence[Query]) -> list[Path]:
    """One path per query and one for the residual."""
    names = naming.stem_names(
        job.options.filename,
        queries,
        track=naming.track_name(job.source),
        model=job.rig.model,
        extension=job.target.extension.removeprefix("."),
    )
    return [out / name for name in names]


def _apart(job: _Job, shelf: Shelf) -> Apart:
    info = job.reader.info
    recording = Recording(
        blocks=lambda: job.reader.blocks(tracks.BLOCK),
        sample_rate=info.sample_rate,
        seconds=info.frames / info.sample_rate if info.frames is not None else None,
        rounded=lambda stems: tracks.on_grid(stems, job.target),
    )
    return Apart(recording, job.rig, shelf, job.progress)


def _write(
    job: _Job, apart: Apart, paths: Sequence[Path], notes: Sequence[str], said: Sequence[str]
) -> sidecar.Separation:
    """Complete all files under temporary names, and put them in place together.

    Args:
        job: what is done.
        apart: the parts, finished.
        paths: one for each part; one more takes the residual.
        notes: names of the files that say what was done; none: nothing is said.
        said: warnings so far.
    """
    info, with_rest = job.reader.info, len(paths) > len(apart.parts)
    tally = judge.Tally(len(paths), info.sample_rate)
    gain, outdated = 1.0, _outdated(job, paths[0].parent) if notes else []
    clips = job.target.subtype not in tracks.FLOAT_SUBTYPES
    if clips:  # else the tally is made on the way
        for mixture, stems in _all_pieces(apart, with_rest):
            tally.add(mixture, stems)
        gain = tracks.fitting_gain(job.target, tally.lowest, tally.highest)
    with tracks.Tracks(
        paths, info.sample_rate, info.channels, job.target, job.options.overwrite, gain
    ) as written:
        for mixture, stems in _all_pieces(apart, with_rest):
            if not clips:
                tally.add(mixture, stems)
            written.write(stems)
        written.finish(tally.lowest, tally.highest)
        error = written.sum_error_db(job.reader.blocks(tracks.BLOCK), gain) if with_rest else None
        separation = _separation(job, apart, paths, tally, gain, error, said)
        if notes:
            sidecar.write(written.staged / sidecar.NAME, separation)
        if job.automatic:
            events.write(written.staged, separation)
        written.commit(*notes, outdated=outdated)
    return separation


def _all_pieces(apart: Apart, with_rest: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The recording, piece by piece, with all that is to be written: (C, t) and (N, C, t)."""
    for mixture, stems in apart.pieces():
        yield mixture, torch.cat([stems, residual(mixture, stems)[None]]) if with_rest else stems


def _outdated(job: _Job, out: Path) -> list[str]:
    """Names of the files that go with a sidecar which is to be replaced."""
    if not job.options.overwrite:
        return []
    try:
        before = sidecar.read(out / sidecar.NAME)
    except UsageError:  # there is none, or it is not to be trusted
        return []
    names = [track.file for track in before.stems]
    names += [events.LABELS, events.EVENTS] if before.automatic else []
    return [
        name
        for name in names
        if Path(name).name == name and (out / name).is_file() and not (out / name).samefile(job.source)
    ]


def _separation(
    job: _Job,
    apart: Apart,
    paths: Sequence[Path],
    tally: judge.Tally,
    gain: float,
    error: float | None,
    said: Sequence[str],
) -> sidecar.Separation:
    rate, frames, rig, chunked = job.reader.info.sample_rate, apart.frames, job.rig, apart.chunked
    seconds = time.perf_counter() - job.began
    measured = zip([*apart.parts, None], paths, tally.verdicts(), strict=False)
    return sidecar.Separation(
        schema=sidecar.SCHEMA,
        tool=sidecar.Tool("unweave", unweave.__version__, torch.__version__),
        model=_model(rig.model, rig.separator),
        listener=_model(rig.listener, rig.ears) if rig.ears is not None else None,
        automatic=job.automatic,
        beside=rig.beside if job.automatic else (),
        source=_source(job.source, job.reader.info, frames),
        stems=tuple(_track(rig, part, path, levels, gain) for part, path, levels in measured),
        gain_db=_lowered(gain),
        sum_error_db=error,
        work=sidecar.Work(
            seconds=round(seconds, 3),
            seconds_per_second=round(seconds * rate / frames, 4) if frames else None,
            chunking=sidecar.Chunking(chunked.window, chunked.context, chunked.fade),
        ),
        warnings=(*job.reader.warnings, *said, *_warnings(apart.parts, job.target, gain)),
    )


def _model(name: str, network: Separator | Ears) -> sidecar.Model:
    digest: str | None = None
    if name in hub.WEIGHTS:
        digest = hub.WEIGHTS[name].sha256
    elif name and Path(name).is_file():
        digest = hub.file_sha256(Path(name))
    device = getattr(network, "device", None)  # not every engine has one
    return sidecar.Model(name, digest, str(device) if device is not None else None, network.sample_rate)


def _source(path: Path, info: AudioInfo, frames: int) -> sidecar.Source:
    return sidecar.Source(
        path=str(path),
        sha256=hub.file_sha256(path),
        format=info.format,
        subtype=info.subtype,
        sample_rate=info.sample_rate,
        channels=info.channels,
        frames=frames,
        seconds=frames / info.sample_rate,
    )


def _track(rig: Rig, part: Part | None, path: Path, levels: judge.Verdict, gain: float) -> sidecar.Track:
    """What the sidecar says of a file; no part means the residual."""
    lowered = _lowered(gain)
    asked = sidecar.Asked.of(part.query) if part else sidecar.Asked()
    return sidecar.Track(
        file=path.name,
        label=_label(part.query) if part else naming.RESIDUAL,
        kind=_kind(part.query if part else None),
        query=asked,
        told=rig.told(part.query) if part else "",
        keep=asked.keep,
        level_dbfs=None if levels.level_dbfs is None else levels.level_dbfs + lowered,
        peak_dbfs=None if levels.peak_dbfs is None else levels.peak_dbfs + lowered,
        share=part.verdict.share if part else 1.0,
        score=part.verdict.score if part else 1.0,
        found=part.verdict.found if part else True,
        spans=tuple((float(start), float(end)) for start, end in part.spans) if part else (),
    )


def _label(query: Query) -> str:
    name = query.text or "like the example"
    return name if query.keep else f"everything but {name}"


def _kind(query: Query | None) -> sidecar.Kind:
    if query is None:
        return "residual"
    return "text" if query.example is None else "example"


def _warnings(parts: Sequence[Part], target: FileFormat, gain: float) -> list[str]:
    said = []
    for part in parts:
        query, verdict = part.query, part.verdict
        if verdict.silenced:
            what = "its track is silence" if query.keep else "nothing was removed"
            said.append(
                f"query not found: {query.text!r} is there with a chance of {100 * verdict.score:.1f} %, so "
                f"{what}; name the sound in other words"
            )
        elif query.keep and not verdict.found:
            said.append(
                f"query not found: {_label(query)!r} takes at most {100 * verdict.share:.1f} % of any half "
                f"second; name the sound in other words"
            )
    if gain < 1:
        said.append(
            f"all tracks were lowered by {-_lowered(gain):.2f} dB so that none clips in "
            f"{target.subtype}; use the subtype FLOAT to keep the level"
        )
    return said


def _before(
    note: Path, source: Path, queries: Sequence[Query] | None, rig: Rig
) -> Literal["done", "unfinished", "different"]:
    """What an earlier run left behind: this same work, a part of it or nothing, or something else."""
    if not note.exists():
        return "unfinished"
    try:
        found = sidecar.read(note)
    except UsageError:
        return "different"
    asked = [track.query for track in found.stems if track.kind != "residual"]
    same = (
        found.automatic == (queries is None)
        and (queries is None or asked == [sidecar.Asked.of(query) for query in queries])
        # A sidecar does not hold the samples of an example.
        and not any(examples.is_listened_to(query, rig) for query in queries or ())
        and found.model.name == rig.model
        and (found.listener.name if found.listener else "") == rig.listener
        and (found.beside == rig.beside or not found.automatic)
        and found.source.sha256 == hub.file_sha256(source)
    )
    if not same:
        return "different"
    return "done" if all((note.parent / track.file).is_file() for track in found.stems) else "unfinished"


def _refuse(job: _Job, paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists() and path.samefile(job.source):
            raise OutputError(f"{path} is the recording itself and is never replaced; choose another output")
    tracks.refuse_existing(paths, job.options.overwrite)


def _lowered(gain: float) -> float:
    """A gain in dB, 0 or below."""
    return 20 * math.log10(gain)
