"""The commands that measure, `evaluate` and `benchmarks`: they parse, call and print, and decide nothing."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from unweave import console
from unweave.errors import BatchError, OutputError, UnknownNameError, UsageError
from unweave.options import AsJson, Device, Quiet

if TYPE_CHECKING:
    from unweave.evaluate.frozen import Benchmark
    from unweave.evaluate.run import Step, Watch

Data = Annotated[Path | None, typer.Option("--data", metavar="FOLDER", help="Folder of the clips.")]
Engines = Annotated[
    str,
    typer.Option("--engine", metavar="NAMES", help="Model, file, ideal-mask, nothing or half; with commas."),
]
Lists = Annotated[
    str, typer.Option("--benchmark", metavar="NAMES", help="Of the list, or files; with commas; or all.")
]
Report = Annotated[Path, typer.Option("--out", "-o", help="Folder of the report; resumed if there.")]
Compared = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--compare", metavar="A B", help="Two reports, answer by answer."),
]
Sets = Annotated[str, typer.Option("--metrics", metavar="SETS", help="With commas; or all.")]
Listens = Annotated[
    str,
    typer.Option(
        "--embedder", metavar="own|KIND=FOLDER", help="Of the semantic set; kinds: clap, tagger, flamingo."
    ),
]
Count = Annotated[
    int | None, typer.Option("--count", min=1, metavar="N", help="Only the first N mixtures of each.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes.")]
Threads = Annotated[int, typer.Option("--threads", min=1, metavar="N", help="Of each worker.")]
Raw = Annotated[bool, typer.Option("--raw", help="The bare engine, as its paper measured it.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of the intervals.")]

benchmarks_app = typer.Typer(cls=TyperGroup, no_args_is_help=False, rich_markup_mode=None)


def evaluate(
    engine: Engines = "",
    benchmark: Lists = "",
    data: Data = None,
    out: Report = Path("report"),
    compare: Compared = None,
    metrics: Sets = "signal",
    embedder: Listens = "own",
    count: Count = None,
    workers: Workers = 1,
    threads: Threads = 1,
    device: Device = "cpu",
    raw: Raw = False,
    seed: Seed = 0,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure engines on benchmarks, all in the same way.

    \b
    unweave evaluate --engine opensep,half,nothing --benchmark tiny --data tests/data -o report
    unweave evaluate --compare report-a report-b

    Writes index.html, results.json and rows/ into the folder of the report. An interrupted run goes on where
    it ended when the same command is given again.
    """
    console.say_warnings()
    if compare:
        return _compare(*compare, seed, json)
    if data is None:
        raise UsageError(
            "--data wants the folder of the clips, for example --data tests/data for the benchmark tiny"
        )
    from unweave.evaluate import run, sets

    plan = run.Plan(
        engines=_names(engine),
        benchmarks=_names(benchmark),
        data=data,
        out=out,
        count=count,
        metrics=(*sets.SETS, *sets.ONCE) if metrics == "all" else _names(metrics),
        workers=workers,
        threads=threads,
        device=device,
        raw=raw,
        seed=seed,
        embedder=embedder,
        command=shlex.join(["unweave", *sys.argv[1:]]),
    )
    try:
        with console.progress("evaluating", quiet) as advance:
            document = run.evaluate(plan, _watch(advance, quiet))
    except KeyboardInterrupt:
        console.say(f"what is finished is kept in {out}; give the same command again to go on")
        raise
    return _tell(document, out / run.PAGE, json, quiet)


def _names(given: str) -> tuple[str, ...]:
    """Names with commas.

    >>> _names("opensep, half,")
    ('opensep', 'half')
    """
    return tuple(name for part in given.split(",") if (name := part.strip()))


def _watch(advance: console.Advance | None, quiet: bool) -> "Watch":
    """Progress with the time left on a terminal; elsewhere a line for each engine on each benchmark."""

    def watch(step: "Step") -> None:
        if advance is not None:
            advance(step.done_in_run, step.items_in_run)
        elif step.done == step.items and not quiet:
            console.say(f"{step.label}: {step.items} items")

    return watch


def _tell(document: dict[str, Any], page: Path, json: bool, quiet: bool) -> None:
    """The table and where the page is; ends the command with 3 where items failed or were left out."""
    from unweave.evaluate import report

    lost = sum(len(one["failed"]) + len(one["left_out"]) for one in document["results"])
    if json:
        console.put_json(document)
    else:
        for line in console.table(report.HEAD, report.score_rows(document["results"])):
            console.put(line)
        console.put(str(page))
    for one in document["results"]:
        where = f"{one['engine']} on {one['benchmark']}"
        for failed in one["failed"]:
            console.say(f"error: {where}: {failed['item']}: {failed['why']}")
        if one["left_out"] and not quiet:
            console.say(
                f"warning: {where}: {len(one['left_out'])} items were left out, their clips are missing"
            )
    if lost:
        raise typer.Exit(BatchError.exit_code)


def _compare(ours: Path, theirs: Path, seed: int, json: bool) -> None:
    from unweave.evaluate.compare import compare
    from unweave.evaluate.report import number
    from unweave.evaluate.sets import METRICS

    found = compare(ours, theirs, seed)
    if json:
        return console.put_json(found)
    rows = []
    for one in found:
        metric = METRICS[one["metric"]]
        scale = 100 if metric.percent else 1
        values = [
            None if x is None else scale * x
            for x in (*one["means"], one["difference"], one["low"], one["high"])
        ]
        mean_a, mean_b, gain, low, high = (number(value) for value in values)
        unit = "%" if metric.percent else metric.unit
        rows.append(
            (
                one["benchmark"],
                " / ".join(dict.fromkeys(one["engines"])),
                f"{metric.title} {unit}".strip(),
                mean_a,
                mean_b,
                f"{gain} [{low}, {high}]",
                str(one["pairs"]),
            )
        )
    head = ("benchmark", "engine", "metric", str(ours), str(theirs), "difference [95 %]", "pairs")
    for line in console.table(head, rows):
        console.put(line)
    return None


@benchmarks_app.callback(invoke_without_command=True)
def benchmarks(ctx: typer.Context) -> None:
    """What engines are measured on: the lists that come along, and how to build them."""
    if ctx.invoked_subcommand is None:
        list_benchmarks()


@benchmarks_app.command("list")
def list_benchmarks(json: AsJson = False) -> None:
    """A table of all of them."""
    from unweave.evaluate import benchmarks as lists

    found = [lists.load(name) for name in lists.names()]
    if json:
        return console.put_json([_facts(one) for one in found])
    rows = [
        (one.name, str(len(one.items)), f"{one.seconds:g} s", f"{one.sample_rate} Hz", one.about)
        for one in found
    ]
    for line in console.table(("name", "mixtures", "length", "rate", "about"), rows):
        console.put(line)
    from unweave.data import corpora

    console.put("")
    console.put(f"To build from a corpus on your disk: {', '.join(corpora.available())}.")
    return None


@benchmarks_app.command("info")
def describe_benchmark(
    name: Annotated[str, typer.Argument(help="As in the list, or a file.")], json: AsJson = False
) -> None:
    """What a benchmark holds and how it was made, or the folder and the protocol of a corpus."""
    from unweave.data import corpora
    from unweave.evaluate import benchmarks as lists

    if name in corpora.available():
        corpus = corpora.load(name)
        facts = {
            "name": name,
            **dataclasses.asdict(corpus.PROTOCOL),
            "layout": (corpus.__doc__ or "").strip(),
        }
    else:
        facts = _facts(lists.read(Path(name)) if name.endswith(".jsonl") else lists.load(name))
    if json:
        return console.put_json(facts)
    for what, value in facts.items():
        console.put(f"{what.replace('_', ' '):<12} {value}")
    return None


@benchmarks_app.command("build")
def build_benchmark(
    name: Annotated[str, typer.Argument(help="As in the list, or a public corpus: esc50, clotho, ...")],
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write, NAME.jsonl if left out.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Another one draws other mixtures.")
    ] = 2026,
    count: Annotated[
        int | None, typer.Option("--count", min=1, metavar="N", help="Mixtures from a public corpus.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Draw a benchmark from the clips it is made of; the same seed gives the same file.

    \b
    unweave benchmarks build seen-2 --data clips
    unweave benchmarks build esc50 --data ESC-50-master --count 200
    """
    from unweave.data import corpora
    from unweave.evaluate import benchmarks as lists
    from unweave.evaluate import build, protocols

    if data is None:
        raise UsageError("--data wants the folder of the clips: with manifest.csv, or of the public corpus")
    public = corpora.available()
    if name not in (*public, *build.RECIPES):
        raise UnknownNameError("benchmark or corpus", name, (*public, *build.RECIPES))
    if count is not None and name not in public:
        raise UsageError(f"--count is for public corpora; {name!r} has its number of mixtures")
    path = out or Path(f"{name}.jsonl")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name with --out, or replace it with --overwrite")
    with console.progress(f"building {name}", quiet) as advance:
        if name in public:
            found = corpora.load(name).clips(data)
            for lost, why in ((found.missing, "missing"), (found.unreadable, "unreadable")):
                if lost:
                    console.say(
                        f"warning: {len(lost)} files of {name} are {why}: {', '.join(lost[:5])}"
                        + (" ..." if len(lost) > 5 else "")
                    )
            made = protocols.build(name, data, seed, count, advance, found)
        else:
            made = build.build(name, data, advance, seed)
    lists.write(made, path, overwrite)
    console.put(str(path))


def _facts(benchmark: "Benchmark") -> dict[str, Any]:
    queries = [ask for item in benchmark.items for ask in item.queries]
    told = {
        field.name: getattr(benchmark, field.name)
        for field in dataclasses.fields(benchmark)
        if field.name not in ("items", "files")
    }
    counts = sorted({len(set(item.of)) for item in benchmark.items})
    return told | {
        "mixtures": len(benchmark.items),
        "sources": " to ".join(map(str, sorted({counts[0], counts[-1]}))) if counts else "0",
        "queries": len(queries),
        "absent": sum(not ask.sources for ask in queries),
        "labels": len({ask.label for ask in queries if ask.sources}),
        "clips": len(benchmark.files),
    }
