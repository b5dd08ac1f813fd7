"""What the commands do with recordings: load an engine, work through them, tell how it went."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unweave import console
from unweave.batch import Job, is_foreign
from unweave.errors import BatchError, UnweaveError, UsageError
from unweave.types import Query, Separator

if TYPE_CHECKING:
    from unweave.pipeline.files import OutputOptions
    from unweave.pipeline.sidecar import Separation


@dataclasses.dataclass(frozen=True)
class Voice:
    """How much is said, and to whom."""

    json: bool
    quiet: bool

    def say(self, text: str) -> None:
        if not self.quiet:
            console.say(text)

    def done(self, source: Path, folder: Path, result: "Separation") -> None:
        """One recording is finished."""
        for warning in result.warnings:
            self.say(f"warning: {source}: {warning}")
        tracks = f"{len(result.stems)} track{'s' if len(result.stems) > 1 else ''}"
        self.say(f"{source}: {tracks}, {result.source.seconds:.1f} s of sound in {result.work.seconds:.1f} s")
        if self.json:
            # Where the tracks are, and then all that the sidecar beside them says.
            console.put_json(
                {"file": str(source), "status": "done", "out": str(folder)} | dataclasses.asdict(result)
            )
        else:
            for track in result.stems:
                console.put(str(folder / track.file))


def separate_all(
    jobs: Sequence[Job],
    queries: Sequence[Query],
    separator: Separator,
    options: "OutputOptions",
    model: str,
    voice: Voice,
) -> int:
    """Separate one after another; a recording that fails does not stop the others. The exit code."""
    from unweave.pipeline.files import separate_file

    failed, skipped = [], 0
    for job in jobs:
        try:
            with console.progress(str(job.source), voice.quiet) as advance:
                result = separate_file(
                    job.source, queries, job.out, separator, options, model=model, progress=advance
                )
        except (UnweaveError, MemoryError, RuntimeError) as error:
            if not isinstance(error, UnweaveError) and not console.out_of_memory(error):
                raise
            failed.append(error)
            console.say(f"error: {job.source}: {console.message_of(error)}")
            if voice.json:
                console.put_json(
                    {"file": str(job.source), "status": "failed", "error": console.describe(error)}
                )
            continue
        if result is not None:
            voice.done(job.source, job.out, result)
            continue
        skipped += 1
        voice.say(f"{job.source}: skipped, {job.out} has its tracks already")
        if voice.json:
            console.put_json({"file": str(job.source), "status": "skipped", "out": str(job.out)})
    if len(jobs) == 1:
        return console.exit_code(failed[0]) if failed else 0
    voice.say(f"{len(jobs) - len(failed) - skipped} done, {skipped} skipped, {len(failed)} failed")
    return BatchError.exit_code if failed else 0


def edit_one(
    file: Path,
    query: Query,
    out: Path | None,
    options: "OutputOptions",
    engine: tuple[str, str],
    voice: Voice,
) -> None:
    """Extract or remove one sound.

    Raises:
        UsageError: `file` is a folder.
        UnweaveError: whatever kept it from being done.
    """
    from unweave.pipeline.files import edit_file
    from unweave.pipeline.naming import slug, track_name

    if file.is_dir():
        raise UsageError(
            f"{str(file)!r} is a folder, wanted is one recording; "
            f"for all that are in it: unweave separate {file} 'a sound'"
        )
    name = (
        f"{track_name(file)}-{'' if query.keep else 'without-'}{slug(query.text)}.{options.format or 'wav'}"
    )
    target = out / name if out and out.is_dir() else out or Path(name)
    separator = load_engine(*engine, [query], voice)
    with console.progress(str(file), voice.quiet) as advance:
        result = edit_file(file, query, target, separator, options, model=engine[0], progress=advance)
    voice.done(file, target.parent, result)


def load_engine(model: str, device: str, queries: Sequence[Query], voice: Voice) -> Separator:
    """The engine for `queries`; says where it runs and why, and which of them it will hardly understand.

    Raises:
        QueryError: the same query twice.
        UnknownNameError, ModelError: no such weights, or they are damaged.
        DeviceError: no such device.
    """
    from unweave import separators
    from unweave.pipeline.edit import as_queries

    for query in as_queries(queries):
        if is_foreign(query.text):
            voice.say(
                f"warning: {query.text!r}: the text encoder reads English; expect better from English words"
            )
    chosen, why = separators.choose_device(device)
    voice.say(f"device: {chosen} ({why})")
    return separators.load(model, chosen)
