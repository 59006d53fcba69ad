#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes of a benchmark's report (stdin, its last line) what its .gp file reads: a block for each curve,
two blank lines between them; the first column is events a second as achieved."""

import json
import sys

NONE_HZ = 0.1  # where "none" stands on a logarithmic axis


def block(title, rows):
    print(f"# {title}")
    for row in rows:
        print(*(round(value, 2) for value in row))
    print("\n")


def per_cent(cell, *names):
    return [100 * cell[name] for name in names]


def rejuvenation(report):
    """Throughput in per cent of the undisturbed (median, quartiles), p99 latency with and without
    replacements in microseconds: planned, then killed, by depth."""
    for kind in ("planned", "killed"):
        for depth, cells in report[kind].items():
            block(f"{kind} {depth}",
                  ([c["achieved_hz"], *per_cent(c, "ratio", "quartile_low", "quartile_high"),
                    c["p99_us"], c["quiet_p99_us"]]
                   for c in cells.values() if c["pairs"] > 0 and c["hz"] > 0))


def amortize(report):
    """Thousand requests a second, p99 latency in microseconds: a to e."""
    schemes = [s for s in report.values() if isinstance(s, dict) and "letter" in s]
    for scheme in sorted(schemes, key=lambda s: s["letter"]):
        block(scheme["letter"],
              ([max(c["achieved_hz"], NONE_HZ), c["iops"] / 1000, c["p99_us"]]
               for c in scheme["rates"].values()))


def main():
    report = json.loads(sys.stdin.read().splitlines()[-1])
    {"rejuvenation": rejuvenation, "amortize": amortize}[report["bench"]](report)


if __name__ == "__main__":
    main()
