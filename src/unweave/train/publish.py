"""Put a finished run among the shipped weights, with a card that says where every number comes from.

``python -m unweave.train.publish RUN --name opensep-small --data ROOT --bench bench.json --notes notes.md``
``python -m unweave.train.publish RUN --name listener --data ROOT --scores scores.json --notes notes.md``
"""

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open

from unweave import hub


def publish(run: Path, name: str, data: Path, report: dict[str, Any], notes: Path) -> Path:
    """Copy run/weights.safetensors to the shipped weights, enter it in their index, and write its card.

    Args:
        run: folder of `unweave train`, with weights.safetensors and log.jsonl.
        name: what users will type.
        data: folder with the manifest.csv it was trained on.
        report: of a separator, what ``python -m unweave.evaluate.bench --model RUN/weights.safetensors
            --json`` printed; of others, scores by name.
        notes: what only a person knows: command, hardware, time, what it fails at; goes into the card.

    Returns:
        The card.
    """
    weights = run / "weights.safetensors"
    with safe_open(weights, framework="pt") as opened:
        parameters = sum(opened.get_tensor(key).numel() for key in opened.keys())  # noqa: SIM118
    scores, table = _summed_up(report, name)
    target = hub.FOLDER / f"{name}.safetensors"
    parts = [
        notes.read_text(encoding="utf-8").rstrip(),
        "## Scores\n" + table,
        "## Loss curve\n" + _curve(run / "log.jsonl"),
        *_calibration(run / "weights.json"),
        "## Data and licences\n" + _sources(data / "manifest.csv"),
    ]
    # From here on nothing can fail but the disk.
    shutil.copyfile(weights, target)
    if (run / "weights.json").exists():
        shutil.copyfile(run / "weights.json", target.with_suffix(".json"))
    index = json.loads((hub.FOLDER / "index.json").read_text(encoding="utf-8"))
    index[name] = {
        "engine": hub.engine_of(target),
        "file": target.name,
        "sha256": hub.file_sha256(target),
        "licence": "CC BY-SA 4.0",
        "parameters": parameters,
        "summary": notes.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "),
        "scores": scores,
    }
    (hub.FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    card = target.with_suffix(".md")
    parts.append(f"sha256 of the file: `{index[name]['sha256']}`; {parameters:,} parameters, stored as fp16.")
    card.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return card


def _summed_up(report: dict[str, Any], name: str) -> tuple[dict[str, float], str]:
    """Scores by name, and a table of them."""
    if all(isinstance(score, int | float) for score in report.values()):
        rows = [f"| {what} | {score:g} |" for what, score in report.items()]
        return report, "\n".join(["| what | score |", "| --- | --- |", *rows])
    named = _named(report, name)
    return _scores(named), _score_table(named)


def _calibration(path: Path) -> list[str]:
    """What a listener's .json says of how far its probabilities can be trusted."""
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "## Calibration",
        f"Fitted on {found['fitted_on']}: {json.dumps(found['calibration'])}. Label F1 there by number of "
        f"sources: {json.dumps(found['label_f1'])}. How often it was so, where so much was said:",
        "",
        "| of | answers | said | observed | 0 . . . . . . . . . 1 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for what, rows in found["reliability"].items():
        for row in rows:
            bar = "`" + "#" * round(20 * row["observed"]) + "-" * (20 - round(20 * row["observed"])) + "`"
            cells = (f"{row[key]:.3f}" for key in ("said", "observed"))
            lines.append(f"| {what} | {row['count']} | {' | '.join(cells)} | {bar} |")
    return ["\n".join(lines)]


def _named(report: dict[str, Any], name: str) -> dict[str, Any]:
    """The report with the weights, measured as a file, under the name they are to have."""
    for what, systems in report.items():
        if what != "speed":
            file = next(iter(systems))
            report[what] = {system.replace(file, name): one for system, one in systems.items()}
    return report


def _scores(report: dict[str, Any]) -> dict[str, float]:
    scores = {}
    for split, systems in report.items():
        if split == "speed":
            scores["seconds per second"] = round(systems["native"]["seconds_per_second"], 4)
            continue
        first = next(iter(systems.values()))
        scores[f"{split} SI-SDRi dB"] = round(first["si_sdr_improvement"], 2)
        scores[f"{split} wrong target %"] = round(100 * first["wrong"], 1)
        if first["absent_db"] is not None:
            scores[f"{split} absent dB down"] = round(first["absent_db"], 1)
    return scores


def _score_table(report: dict[str, Any]) -> str:
    lines = [
        "| mixtures | system | SI-SDRi dB | SDRi dB | wrong target | absent, dB down |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for split, systems in report.items():
        if split == "speed":
            continue
        for system, one in systems.items():
            absent = (
                "-" if one["absent_db"] is None else f"{one['absent_db']:.1f} ± {one['absent_interval']:.1f}"
            )
            lines.append(
                f"| {split} | {system} | {one['si_sdr_improvement']:.2f} ± {one['si_sdr_interval']:.2f} | "
                f"{one['sdr_improvement']:.2f} | {100 * one['wrong']:.1f} % | {absent} |"
            )
    speed = report["speed"]
    lines += ["", "| speed, 2 threads | s per s of mono audio | peak MB |", "| --- | --- | --- |"]
    lines += [
        f"| {what} | {one['seconds_per_second']:.4f} | {one['megabytes']:.0f} |"
        for what, one in speed.items()
    ]
    return "\n".join(lines)


def _curve(log: Path) -> str:
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    shown = entries[:: max(1, len(entries) // 14)]
    shown += [entries[-1]] if entries[-1] is not shown[-1] else []
    wanted = ("si_sdr", "snr", "gate", "leak", "frames", "whole", "rank", "first")
    names = [
        name for part in ("", "held_out/") for name in (part + one for one in wanted) if name in entries[-1]
    ]
    lines = [f"| update | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    lines += [
        f"| {entry['step']} | " + " | ".join(f"{entry.get(name, float('nan')):.2f}" for name in names) + " |"
        for entry in shown
    ]
    return "\n".join(lines)


def _sources(manifest: Path) -> str:
    """Clips, minutes and licences of the training split, by source."""
    found: dict[str, tuple[int, float, set[str]]] = {}
    with manifest.open(newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            if row["split"] != "train":
                continue
            source = row.get("source") or row["group"]
            clips, seconds, licences = found.get(source, (0, 0.0, set()))
            found[source] = (clips + 1, seconds + float(row["seconds"]), licences | {row["license"]})
    lines = ["| source | clips | minutes | licences |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {source} | {clips} | {seconds / 60:.1f} | {'; '.join(sorted(licences))} |"
        for source, (clips, seconds, licences) in sorted(found.items(), key=lambda item: -item[1][1])
    ]
    return "\n".join(lines)


def main() -> None:
    """Parse and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    for name in ("data", "notes"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    measured = parser.add_mutually_exclusive_group(required=True)
    for name in ("bench", "scores"):
        measured.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    report = json.loads((options.bench or options.scores).read_text(encoding="utf-8"))
    print(publish(options.run, options.name, options.data, report, options.notes))


if __name__ == "__main__":
    main()
