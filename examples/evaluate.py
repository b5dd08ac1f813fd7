"""Measure the shipped weights beside an oracle and two baselines, on the clips of this repository."""

from pathlib import Path

from unweave.evaluate.run import Plan, evaluate

report = evaluate(
    Plan(
        engines=("opensep", "ideal-mask", "half", "nothing"),
        benchmarks=("tiny",),
        data=Path(__file__).parents[1] / "tests" / "data",
        out=Path("out/report"),
    )
)
for one in report["results"]:
    gained, wrong = one["metrics"]["si_sdri"], one["metrics"]["wrong_target"]
    print(
        f"{one['engine']:16} {gained['mean']:6.2f} dB [{gained['low']:.2f}, {gained['high']:.2f}]"
        f"   {wrong['mean']:6.1%} nearer to another sound"
    )
print("out/report/index.html")
