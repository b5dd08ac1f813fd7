"""One HTML page of a run: readable without a network, without scripts, on a phone, in the dark and by ear.

All that comes from a benchmark, an engine or an error is escaped; the page holds no script at all.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from unweave.evaluate import report_media, report_plots
from unweave.evaluate.engines import Engine
from unweave.evaluate.headline import EXACT_DB, QUIETEST_DB, WORST_DB
from unweave.evaluate.report_media import Shown
from unweave.evaluate.report_style import STYLE
from unweave.evaluate.sets import METRICS
from unweave.evaluate.workers import Hearing, Job, Setting, Spread, Worker

Json = Mapping[str, Any]
Key = tuple[str, str, str, str, int]  # engine, benchmark, "best" or "worst", item, query

NOTE = (
    f"Means over answers, with 95 % bootstrap intervals over mixtures. An answer counts at least "
    f"{WORST_DB:g} dB of SI-SDRi, so silence does not count minus infinity; an answer to what is not there "
    f"counts at most {QUIETEST_DB:g} dB below the mixture; a sum error counts at least {EXACT_DB:g} dB. "
    f"What is undefined is counted and never averaged. Wrong target: the answer is nearer, in SI-SDR, to "
    f"another source of the mixture. AUROC: how well the level of an answer tells whether the sound is "
    f"there; 0.5 is chance."
)
ENDS = ("worst", "best")
_LABELS = 24  # bars of a plot; the table below it has all


def listen(document: Json, setting: Setting, engines: Sequence[Engine], spread: Spread) -> dict[Key, Shown]:
    """Players and spectrograms of the best and the worst answers, rendered and asked for again.

    Of oracles and baselines none, unless there is nothing else: everybody knows how a mixture sounds.
    """
    audible = [one for one in engines if not one.is_system] or list(engines)
    wanted: dict[tuple[str, str, str], list[Hearing]] = {}
    for engine in audible:
        for result in (one for one in document["results"] if one["engine"] == engine.name):
            name = result["benchmark"]
            place = {item.id: index for index, item in enumerate(setting.benchmarks[name].items)}
            for end in ENDS:
                jobs = [(Job(engine, name, place[row["item"]]), row["query"]) for row in result[end]]
                wanted[engine.name, name, end] = [Hearing(job, query) for job, query in jobs]
    hearings = dict.fromkeys(hearing for some in wanted.values() for hearing in some)
    found = {hearing: (heard, shown) for hearing, heard, shown in spread(Worker.hear, hearings)}
    fitted = report_media.fitting([[found[hearing] for hearing in some] for some in wanted.values()])
    return {
        (*key, setting.benchmarks[hearing.job.benchmark].items[hearing.job.index].id, hearing.query): shown
        for (key, some), kept in zip(wanted.items(), fitted, strict=True)
        for hearing, shown in zip(some, kept, strict=False)
    }


def page(document: Json, media: Mapping[Key, Shown]) -> str:
    """The whole page.

    Args:
        document: what `results.json` says.
        media: from `listen`.
    """
    results = document["results"]
    colours = {one["name"]: number for number, one in enumerate(document["engines"])}
    names = list(dict.fromkeys(result["benchmark"] for result in results))
    title = f"{', '.join(colours)} on {', '.join(names)}"
    body = [
        f"<header><h1>{escape(title)}</h1><p>{_made(document)}</p></header>",
        "<main>",
        f"<section><h2>Scores</h2>{scores(results)}<p>{escape(NOTE)}</p>{_problems(results)}</section>",
        *(
            _benchmark(name, [one for one in results if one["benchmark"] == name], colours, media)
            for name in names
        ),
        f"<section><h2>Every metric</h2>{_all_metrics(document)}</section>",
        f"<section><h2>Cost</h2>{_cost(document)}</section>",
        f"<section><h2>How this was made</h2>{_facts(document)}</section>",
        "</main>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def number(value: float | None, digits: int = 2) -> str:
    """For a table.

    >>> number(1.234), number(None)
    ('1.23', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(one: Json | None, name: str) -> str:
    """Mean and interval of a metric for a table, a share in percent.

    >>> with_interval({"mean": 0.5, "low": 0.4, "high": 0.625}, "wrong_target")
    '50.0 [40.0, 62.5]'
    """
    if one is None or one["mean"] is None:
        return "–"
    scale, digits = (100, 1) if METRICS[name].percent else (1, 2)
    middle = number(scale * one["mean"], digits)
    if one["low"] is None:
        return middle
    return f"{middle} [{number(scale * one['low'], digits)}, {number(scale * one['high'], digits)}]"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; the first column names the row. Cells are escaped here."""
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


HEAD = (
    "benchmark",
    "engine",
    "SI-SDRi dB",
    "median",
    "SDRi dB",
    "wrong target %",
    "absent dB down",
    "AUROC",
    "undefined",
)


def score_rows(results: Sequence[Json]) -> list[tuple[str, ...]]:
    """The table of every engine on every benchmark, as text; columns as in `HEAD`."""
    rows: list[tuple[str, ...]] = []
    for one in results:
        metrics = one["metrics"]
        undefined = sum(metrics.get("si_sdri", {}).get("undefined", {}).values())
        rows.append(
            (
                one["benchmark"],
                one["engine"],
                with_interval(metrics.get("si_sdri"), "si_sdri"),
                number(metrics.get("si_sdri", {}).get("median")),
                with_interval(metrics.get("sdri"), "sdri"),
                with_interval(metrics.get("wrong_target"), "wrong_target"),
                with_interval(metrics.get("attenuation_db"), "attenuation_db"),
                number(one["presence_auroc"], 3),
                str(undefined),
            )
        )
    return rows


def scores(results: Sequence[Json]) -> str:
    """The same as HTML."""
    return table("Every engine on every benchmark", HEAD, score_rows(results))


def _made(document: Json) -> str:
    tool, command = document["tool"], document["command"]
    said = f"Unweave {tool['version']}, {document['made'].replace('T', ' ').removesuffix('+00:00')} UTC"
    return f"{escape(said)}" + (f"<br><code>{escape(command)}</code>" if command else "")


def _problems(results: Sequence[Json]) -> str:
    """Items that failed or were left out; "" if none."""
    rows = [
        (f"{one['benchmark']} / {one['engine']}", failed["item"], failed["why"])
        for one in results
        for failed in one["failed"]
    ]
    rows += [
        (f"{one['benchmark']} / {one['engine']}", item, "left out: a clip is missing")
        for one in results
        for item in one["left_out"]
    ]
    if not rows:
        return ""
    return (
        f'<details class="bad"><summary>{len(rows)} items are not counted</summary>'
        + table("Items that are not counted", ("where", "item", "why"), rows)
        + "</details>"
    )


def _benchmark(
    name: str, results: Sequence[Json], colours: Mapping[str, int], media: Mapping[Key, Shown]
) -> str:
    """Plots of one benchmark, and the best and worst answers of each engine that can be heard."""
    ordered = sorted(results, key=lambda one: colours[one["engine"]])
    legend = "".join(
        f'<li class="c{colours[one["engine"]] % 8}"><span>{escape(one["engine"])}</span></li>'
        for one in ordered
    )
    parts = [f"<h2>{escape(name)}</h2>", f'<ul class="legend">{legend}</ul>', '<div class="plots">']
    for key, x_label, title in (
        ("by_snr", "level of the source against all else, dB", "SI-SDRi by input SNR"),
        ("by_sources", "number of sources", "SI-SDRi by number of sources"),
    ):
        drawn = report_plots.lines({one["engine"]: one[key] for one in ordered}, title, x_label, "SI-SDRi dB")
        parts.append(_figure(title + ", dB", drawn))
    parts.append("</div>")
    for one in ordered:
        parts.append(_labels(one, colours[one["engine"]]))
        for end in ENDS:
            items = [
                (row, media.get((one["engine"], name, end, row["item"], row["query"]))) for row in one[end]
            ]
            if any(shown for _, shown in items):
                parts.append(_items(f"{end} answers of {one['engine']}", items))
    return f"<section>{''.join(parts)}</section>"


def _figure(caption: str, drawn: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawn}</figure>" if drawn else ""


def _labels(one: Json, colour: int) -> str:
    groups = sorted(
        (group for group in one["by_label"] if group["mean"] is not None), key=lambda group: -group["mean"]
    )
    shown, which = groups, ""
    if len(groups) > _LABELS:
        shown, which = groups[: _LABELS // 2] + groups[-_LABELS // 2 :], f", best and worst {_LABELS // 2}"
    drawn = report_plots.bars(shown, f"SI-SDRi by label, {one['engine']}", "dB", colour)
    rows = [
        (
            group["key"],
            number(group["mean"]),
            number(group["low"]),
            number(group["high"]),
            str(group["count"]),
        )
        for group in groups
    ]
    listed = table(f"{one['engine']}: SI-SDRi by label", ("label", "mean dB", "from", "to", "answers"), rows)
    drawn = _figure("SI-SDRi by label, dB", drawn)
    return (
        f"<details><summary>{escape(one['engine'])} by label{which}</summary>{drawn}"
        f"<details><summary>all {len(groups)} labels</summary>{listed}</details></details>"
    )


def _items(title: str, items: Sequence[tuple[Json, Shown | None]]) -> str:
    cards = []
    for row, shown in items:
        facts = f"SI-SDRi {number(row['metrics']['si_sdri'])} dB, input SNR {number(row['snr_db'], 1)} dB"
        wrong = ", wrong target" if row["metrics"].get("wrong_target") == 1 else ""
        heading = f"<h4>{escape(row['text'])}</h4><p>{escape(row['item'])}: {facts}{wrong}</p>"
        players = ""
        if shown is not None:
            players = "".join(
                f"<figure><figcaption>{name}</figcaption>"
                f'<img src="{picture}" alt="spectrogram of the {name}">'
                f'<audio controls preload="none" src="{audio}" aria-label="{name}"></audio></figure>'
                for name, picture, audio in zip(
                    ("mixture", "reference", "estimate"), shown.pictures, shown.audio, strict=True
                )
            )
        if shown is None:
            players = "<p>Left out to keep this page small; evaluate this benchmark alone to hear it.</p>"
        cards.append(f'<article>{heading}<div class="three">{players}</div></article>')
    scale = "Spectrograms: from 40 Hz to half the sample rate, log axis, 80 dB down from the mixture's peak."
    return (
        f"<details><summary>{len(cards)} {escape(title)}</summary><h3>{escape(title)}</h3><p>{scale}</p>"
        f"{''.join(cards)}</details>"
    )


def _all_metrics(document: Json) -> str:
    rows = []
    heard_by = document["options"]["embedder"]
    for one in document["results"]:
        for name, found in one["metrics"].items():
            metric = METRICS[name]
            way = {1: "higher", -1: "lower", 0: "neither"}[metric.better]
            undefined = ", ".join(f"{count} {reason}" for reason, count in found["undefined"].items()) or "0"
            unit = "%" if metric.percent else metric.unit
            rows.append(
                (
                    f"{one['benchmark']} / {one['engine']}",
                    f"{metric.title}{f' ({unit})' if unit else ''}{f', {heard_by}' if metric.heard else ''}",
                    with_interval(found, name),
                    number(
                        None if found["median"] is None else (100 if metric.percent else 1) * found["median"]
                    ),
                    way,
                    str(found["count"]),
                    undefined,
                )
            )
        distance = one["frechet_audio_distance"]
        if distance is not None:
            name = f"FAD of all answers to all references, {heard_by}"
            size = str(one["queries"]["present"])
            rows.append(
                (f"{one['benchmark']} / {one['engine']}", name, number(distance, 4), "–", "lower", size, "0")
            )
    head = ("where", "metric", "mean [95 %]", "median", "better", "answers", "undefined")
    return table("Every metric", head, rows)


def _cost(document: Json) -> str:
    rows = []
    engines = {one["name"]: one for one in document["engines"]}
    for one in document["results"]:
        engine = engines[one["engine"]]
        rows.append(
            (
                engine["name"],
                one["benchmark"],
                f"{engine['parameters'] / 1e6:.2f} M" if engine["parameters"] else "–",
                number(one["seconds_per_second"], 4),
                number(engine["loading_seconds"]),
                number(engine["worker_megabytes"], 0),
                "–" if one["engine_share"] is None else f"{100 * one['engine_share']:.1f} %",
            )
        )
    head = (
        "engine",
        "benchmark",
        "parameters",
        "s per s of sound and query",
        "loading s",
        "peak MB of a worker",
        "time in engine",
    )
    alone = [
        (
            engine["name"],
            number(cost["seconds_per_second"], 4),
            number(cost["start_up"]),
            number(cost["megabytes"], 0),
            f"{cost['parameters'] / 1e6:.2f} M",
            f"{cost['multiply_adds'] / 1e9:.2f} G",
        )
        for engine in document["engines"]
        if (cost := engine["cost"])
    ]
    heads = (
        "engine",
        "s per s of sound",
        "start-up s",
        "peak MB",
        "parameters",
        "multiply-adds per s of sound",
    )
    measured = table("Alone in a process of its own, one query, ten seconds of sound", heads, alone)
    return table("While evaluating", head, rows) + (measured if alone else "")


def _facts(document: Json) -> str:
    benchmarks = [
        (
            one["name"],
            f"{one['items']} items",
            f"{one['sample_rate']} Hz",
            str(one["seed"]),
            one["sha256"],
            one["command"],
        )
        for one in document["benchmarks"]
    ]
    engines = [(one["name"], one["weights"] or "–", one["sha256"] or "–") for one in document["engines"]]
    settings = {
        **document["environment"],
        **document["options"],
        "seed of the intervals": document["seed"],
        "seconds of this run": document["seconds"]["whole_run"],
        "seconds in engines, all workers together": document["seconds"]["in_engines"],
    }
    said = [
        (str(name), ", ".join(value) if isinstance(value, list) else str(value))
        for name, value in settings.items()
    ]
    return (
        table("Benchmarks", ("name", "evaluated", "rate", "seed", "sha256", "built by"), benchmarks)
        + table("Engines", ("name", "weights", "sha256"), engines)
        + table("Environment and settings", ("what", "value"), said)
    )
