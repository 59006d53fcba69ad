#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that files stay under 600 lines and functions under 60.

    sizes.py [ROOT]

A function is what stands between a `{` and a `}` in the first column, as clang-format sets them; its
lines are counted from brace to brace.  Prints one line a breach, then the longest of each kind; exit
status 1 when there is a breach.
"""

import os
import re
import sys

FOLDERS = (".ci", "core", "devmodel", "snapshot", "hotplug", "tests", "benchmarks", "mk", "tools")
ENDINGS = (".c", ".h", ".sh", ".py", ".pml", ".asl", ".mk", ".lds")
SKIP = ("corpus",)
FILE_MAX, FUNCTION_MAX = 600, 60
NAME = re.compile(r"(\w+)\(")


def sources(root):
    for folder in FOLDERS:
        for where, folders, names in os.walk(os.path.join(root, folder)):
            folders[:] = [f for f in folders if f not in SKIP]
            for name in sorted(names):
                if name.endswith(ENDINGS) or os.path.join(folder, name) == ".ci/run":
                    yield os.path.relpath(os.path.join(where, name), root)


def signature(lines, brace):
    """The name of the function whose body begins at line `brace`."""
    start = brace - 1
    while start > 0 and lines[start][:1] in (" ", "\t"):
        start -= 1
    found = NAME.search(lines[start])
    return found.group(1) if found else f"line {brace + 1}"


def functions(lines):
    """(name, lines) of each function of a C file."""
    begin = None
    for number, line in enumerate(lines):
        if line.startswith("{"):
            begin = number
        elif line.startswith("}") and begin is not None:
            yield signature(lines, begin), number - begin + 1
            begin = None


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    wrong, files, bodies = [], [], []
    for path in sources(root):
        with open(os.path.join(root, path), encoding="utf-8") as file:
            lines = file.read().splitlines()
        files.append((len(lines), path))
        if path.endswith((".c", ".h")):
            bodies += [(count, f"{path}: {name}()") for name, count in functions(lines)]
    wrong += [f"{path}: {n} lines, more than {FILE_MAX}" for n, path in files if n > FILE_MAX]
    wrong += [f"{what}: {n} lines, more than {FUNCTION_MAX}" for n, what in bodies if n > FUNCTION_MAX]
    print("\n".join(wrong), end="\n" if wrong else "")
    for kind, found in (("file", files), ("function", bodies)):
        count, what = max(found, default=(0, "none"))
        print(f"sizes: {len(found)} {kind}s, the longest {count} lines: {what}")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main())
