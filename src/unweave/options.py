"""Options that several commands share, and what becomes of their values; they parse and decide nothing."""

import logging
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from unweave import console
from unweave.errors import UsageError

if TYPE_CHECKING:
    from unweave.pipeline.files import OutputOptions

Queries = Annotated[
    list[str] | None,
    typer.Option("--query", "-Q", metavar="TEXT", help="A sound, whatever it looks like; repeatable."),
]
Not = Annotated[str, typer.Option("--not", metavar="TEXT", help="What the sound must not be.")]
Spans = Annotated[
    list[str] | None,
    typer.Option("--span", metavar="START-END", help="Seconds in which it sounds; repeatable."),
]
ModelName = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME|FILE", help="See `unweave models list`.")
]
Like = Annotated[
    list[str] | None,
    typer.Option("--like", metavar="FILE[@START-END]", help="A sound by example; repeatable."),
]
ListenerName = Annotated[
    str, typer.Option("--listener", metavar="NAME|FILE|none", help="Who hears what is there.")
]
CaptionerSpec = Annotated[
    str,
    typer.Option(
        "--captioner",
        metavar="SPEC",
        help="With no sound named, who else names them: whisper|qwen2-audio|flamingo:FOLDER or NAME@COMMIT.",
    ),
]
ChatSpec = Annotated[
    str,
    typer.Option(
        "--chat",
        metavar="SPEC",
        help="Who reads the words: none, openai:MODEL@ADDRESS, local:FOLDER. Rules if none.",
    ),
]
MostTracks = Annotated[
    int, typer.Option("--tracks", min=1, metavar="N", help="At most, with no sound named.")
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.")]
Format = Annotated[
    str | None, typer.Option("--format", metavar="EXT", help="Of the tracks, for example wav or flac.")
]
Subtype = Annotated[str | None, typer.Option("--subtype", help="Sample format, for example PCM_24 or FLOAT.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, metavar="N", help="Processor threads to use.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never reach for the network.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable answers and errors on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]


def set_up(threads: int | None, offline: bool, verbose: bool) -> None:
    """Settings of the whole process; before anything heavy is imported, which reads some of them once."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    console.say_warnings()
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(name)s: %(message)s")
    if threads:
        import torch

        torch.set_num_threads(threads)


def spans_of(texts: Sequence[str] | None) -> tuple[tuple[float, float], ...]:
    """START-END in seconds, each.

    >>> spans_of(["1.5-3", "10-12"])
    ((1.5, 3.0), (10.0, 12.0))
    """
    found = []
    for text in texts or ():
        match = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text.strip())
        if not match:
            raise UsageError(f"--span wants START-END in seconds, for example 1.5-3, got {text!r}")
        found.append((float(match[1]), float(match[2])))
    return tuple(found)


def output_options(
    format: str | None, subtype: str | None, filename: str | None, overwrite: bool, skip_existing: bool
) -> "OutputOptions":
    from unweave.pipeline.files import OutputOptions

    given = {"filename": filename} if filename else {}
    return OutputOptions(format, subtype, overwrite=overwrite, skip_existing=skip_existing, **given)
