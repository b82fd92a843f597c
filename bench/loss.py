"""Calls over bad lines, with one path, `auto` and `always` on the same traces: PESQ wide-band of what was heard.

Usage: loss.py RUNNER [--traces N] [--cell NAME] [--speech FILE…] [--out DIR] [--json]
RUNNER is the example `loss_cells` of tandem-media, which plays the calls. Needs the packages numpy and pesq.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor

import pesq_wb as scoring

WORKERS = 2
STRATEGIES = ["off", "auto", "always"]
# The cell with which the others are compared: the same recordings, nothing lost.
CLEAN = "none"
# What the studies that the design rests on have for the like case: one path, and two mirrored, both with LBRR and
# deep concealment. Six other speakers, two traces.
STUDIED = {
    "none": "4.23; 4.23",
    "random 5 % on each path": "3.77; 4.22",
    "bursts of 4, 10 % on each path": "2.58; 4.21",
}


def score(call):
    played, heard = scoring.load(call["played"]), scoring.load(call["heard"])
    begin = int(call["from_s"] * scoring.RATE)
    # What was played comes within the next second; the same piece again comes later.
    heard = heard[begin : begin + len(played) + scoring.RATE]
    return dict(call, **scoring.compare(played, heard))


def run(arguments, folder):
    command = [arguments.runner, folder, str(arguments.traces), arguments.cell, *arguments.speech]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    calls = [json.loads(line) for line in done.stdout.splitlines()]
    with ProcessPoolExecutor(WORKERS) as pool:
        return sorted(pool.map(score, calls), key=lambda call: call["trace"])


def spread(values):
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def rows(calls):
    clean = {(call["strategy"], call["trace"]): call["pesq"] for call in calls if call["cell"] == CLEAN}
    for cell in dict.fromkeys(call["cell"] for call in calls):
        row = {"cell": cell, "studied": STUDIED.get(cell)}
        for strategy in STRATEGIES:
            of = [call for call in calls if call["cell"] == cell and call["strategy"] == strategy]
            mean = lambda figure: statistics.fmean(call[figure] for call in of)
            less = [call["pesq"] - clean[key] for call in of if (key := (strategy, call["trace"])) in clean]
            row[strategy] = {
                "calls": len(of),
                **spread([call["pesq"] for call in of]),
                "against_none": statistics.fmean(less) if less else None,
                "lag_ms": mean("lag_ms"),
                "concealed_ms": mean("concealed_ms"),
                "kbit_s": mean("kbit_s"),
            }
        yield row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runner")
    parser.add_argument("--traces", type=int, default=10)
    parser.add_argument("--cell", default="", help="only the cells whose names contain this")
    parser.add_argument("--speech", nargs="+", default=["assets/speech/alice.wav", "assets/speech/bob.wav"])
    parser.add_argument("--out", help="leave the recordings in this folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tandem-loss-") as temporary:
        folder = pathlib.Path(arguments.out or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        calls = run(arguments, str(folder))
    table = list(rows(calls))
    if arguments.json:
        print(json.dumps({"bench": "loss", "rows": table, "runs": calls}))
        return
    print(f"PESQ-WB, mean ± sd of {arguments.traces} traces; in brackets the difference to the cell '{CLEAN}', ms made up,")
    print("ms later, and kbit/s sent over the whole call\n")
    print(f"{'':32}" + "".join(f"{name:^37}" for name in STRATEGIES) + "studied: one path; mirrored")
    for row in table:
        cells = "".join(
            "{mean:5.2f} ± {sd:4.2f} ({less}, {concealed_ms:4.0f}, {lag_ms:3.0f}, {kbit_s:3.0f})".format(
                less="–" if row[name]["against_none"] is None else f"{row[name]['against_none']:+.2f}", **row[name]
            ).ljust(37)
            for name in STRATEGIES
        )
        print(f"{row['cell']:32}{cells}{row['studied'] or '–'}")


if __name__ == "__main__":
    main()
