#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes of bench-rejuvenation's report (stdin, its last line) what rejuvenation.gp reads: a block for
each curve, two blank lines between them.  Columns: replacements a second as achieved, throughput in
per cent of the undisturbed (median, quartiles), p99 latency with and without them in microseconds."""

import json
import sys

COLUMNS = ("achieved_hz", "ratio", "quartile_low", "quartile_high", "p99_us", "quiet_p99_us")
PER_CENT = ("ratio", "quartile_low", "quartile_high")


def main():
    report = json.loads(sys.stdin.read().splitlines()[-1])
    for kind in ("planned", "killed"):
        for depth, cells in report[kind].items():
            print(f"# {kind} {depth}: {' '.join(COLUMNS)}")
            for cell in cells.values():
                if cell["pairs"] > 0 and cell["hz"] > 0:
                    print(*(round(cell[c] * (100 if c in PER_CENT else 1), 2) for c in COLUMNS))
            print("\n")


if __name__ == "__main__":
    main()
