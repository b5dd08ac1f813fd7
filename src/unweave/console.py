"""How the command line talks: data on stdout, everything said to people on stderr."""

import contextlib
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from unweave.errors import UnweaveError

Advance = Callable[[float, float | None], None]  # seconds of sound done, and in all where that is known

CLOSED_PIPE = 141  # as a shell reports a program that SIGPIPE ended
INTERRUPTED = 130  # as a shell reports a program that SIGINT ended
OUT_OF_MEMORY = 6


class ClosedPipe(Exception):
    """Whoever read our stdout has gone, as in ``unweave ... | head``: a reason to stop, not an error."""


def put(text: str) -> None:
    """A line of data on stdout.

    Raises:
        ClosedPipe: nobody reads any more.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError as error:
        # What is still buffered would fail once more when Python closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ClosedPipe from error


def put_json(document: Any) -> None:
    """`document` as one line of JSON on stdout; strict, so NaN is refused."""
    put(json.dumps(document, ensure_ascii=False, allow_nan=False))


def say(text: str) -> None:
    """A line for people on stderr."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def say_entry(entry: Mapping[str, object]) -> None:
    """One line of a log for people.

    >>> say_entry({"step": 100, "loss": 0.25})
    """
    say(
        "  ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in entry.items()
        )
    )


def say_warnings() -> None:
    """From now on a Python warning is one line on stderr, without the line of code it came from."""

    def show(message: Warning | str, *_: Any) -> None:
        say(f"warning: {message}")

    warnings.showwarning = show  # type: ignore[assignment]


def describe(error: BaseException) -> dict[str, Any]:
    """What ``--json`` prints of an error: its kind, its message and the exit code."""
    return {"type": type(error).__name__, "message": message_of(error), "exit_code": exit_code(error)}


def exit_code(error: BaseException) -> int:
    """The exit code an error stands for; 1 where it is none of ours."""
    if isinstance(error, UnweaveError):
        return error.exit_code
    if out_of_memory(error):
        return OUT_OF_MEMORY
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def message_of(error: BaseException) -> str:
    """One line for people."""
    if out_of_memory(error) and not isinstance(error, UnweaveError):
        return "out of memory; close other programs, ask for fewer sounds at once, or try --device cpu"
    return str(error) or type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whichever device: PyTorch has no one class for it.

    >>> out_of_memory(MemoryError()), out_of_memory(ValueError("no"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("can't allocate memory", "out of memory", "not enough memory")
    )


def report(error: BaseException, as_json: bool) -> int:
    """Tell people, and programs with `as_json`, about the error that ends the run; its exit code."""
    if isinstance(error, KeyboardInterrupt):
        say("interrupted; nothing half-written was left behind")
    elif isinstance(error, UnweaveError) or out_of_memory(error):
        say(f"error: {message_of(error)}")
    else:
        # A fault of ours: whoever mends it needs to see where.
        traceback.print_exception(error)
    if as_json:
        put_json({"error": describe(error)})
    return exit_code(error)


@contextlib.contextmanager
def progress(label: str, quiet: bool) -> Iterator[Advance | None]:
    """Time done and time left while a file is worked on, on a terminal; nothing at all elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns.

    >>> table(("name", "size"), [("opensep", "8 MB")])
    ['name     size', 'opensep  8 MB']
    """
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    )
    return [line.rstrip() for line in lines]
