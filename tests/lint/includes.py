#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that the includes of the tree follow the arrows of its folders.

    includes.py [ROOT]

abi <- codec <- {devmodel, core/{box,bus,machine}} <- {snapshot image, hotplug} <- {core/api,
core/vhost} <- core/main.  Right in core/ lie both ends of this: what everybody may use (cc, log,
loop, options, ..) and, in TOP, what puts a VM together (vmm, run, ctl, config, ..) and stands beside
core/api, which acts on it: those see everything below, and nothing below sees them.  A box must not see the VMM, and the VMM sees of a device its contract
only: what one file may include is said in RULES, first match.  Besides: no include goes in a circle,
each names a file that exists, and a .c file includes the header of its own name.
Prints one line a breach; exit status 1 when there is one.
"""

import os
import re
import sys
from fnmatch import fnmatch

FOLDERS = ("core", "devmodel", "snapshot", "hotplug", "tests", "benchmarks")
FREE = ("tests/", "benchmarks/")  # may include whatever they try
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.M)

ABI = ["devmodel/abi/*"]
# What the VMM may know of device models: the contract, and each kind's policy and state schema.
CONTRACT = ABI + ["devmodel/common/policies.h", "devmodel/*/policy.h", "devmodel/*/state.h"]
LEAVES = ["snapshot/codec.h", "snapshot/envelope.h"]
BASE = ["core/*.h"]
LOWER = ["core/box/*", "core/bus/*", "core/machine/*"]
UPPER = ["core/api/*", "core/vhost/*"]
TOP = ["core/station.h", "core/vmm.h", "core/vmm_device.h", "core/vmm_internal.h", "core/process.h", "core/run.h", "core/ctl.h", "core/http.h", "core/config.h",
       "core/config_fields.h", "core/device_spec.h"]
MAY_SEE_TOP = TOP + UPPER + ["core/*.c"]
IMAGE = ["snapshot/*", "hotplug/*"]

# (who, what it may include of the project, what of the system: None is anything)
RULES = [
    ("devmodel/abi/*", ABI, ["stdint.h", "stddef.h", "stdbool.h"]),
    ("snapshot/codec.*", ABI + ["snapshot/codec.h"], None),
    ("snapshot/envelope.*", ["snapshot/envelope.h"], None),
    ("devmodel/common/*", ABI + ["devmodel/common/*", "snapshot/codec.h"], None),
    ("devmodel/*/*", ABI + ["devmodel/common/*", "devmodel/{kind}/*", "snapshot/codec.h"], None),
    ("core/box/*", CONTRACT + LEAVES + BASE + LOWER, None),
    ("core/bus/*", CONTRACT + LEAVES + BASE + LOWER, None),
    ("core/machine/*", CONTRACT + LEAVES + BASE + LOWER, None),
    ("snapshot/*", CONTRACT + BASE + LOWER + ["snapshot/*"], None),
    ("hotplug/*", CONTRACT + BASE + LOWER + IMAGE, None),
    ("core/api/*", CONTRACT + BASE + LOWER + IMAGE + UPPER, None),
    ("core/vhost/protocol.h", [], ["stdint.h"]),  # tests speak it, too
    ("core/vhost/*", CONTRACT + BASE + LOWER + IMAGE + UPPER, None),
    *[(top, CONTRACT + LEAVES + BASE + LOWER + IMAGE, None) for top in TOP],
    ("core/*.h", CONTRACT + LEAVES + BASE, None),
    ("core/config_fields.c", CONTRACT + BASE + ["devmodel/common/rate.h"], None),
    ("core/*.c", CONTRACT + BASE + LOWER + IMAGE + UPPER, None),
]


def depth_match(path, pattern):
    """fnmatch in which * stays inside one folder."""
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)


def sources(root):
    for folder in FOLDERS:
        for where, _, names in os.walk(os.path.join(root, folder)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(where, name), root)


def includes(root, path):
    """([quoted names], [system names]) of one file."""
    with open(os.path.join(root, path), encoding="utf-8") as file:
        found = INCLUDE.findall(file.read())
    return [q for q, _ in found if q], [s for _, s in found if s]


def rule_for(path):
    for who, ours, system in RULES:
        if depth_match(path, who):
            kind = path.split("/")[1]
            return [pattern.replace("{kind}", kind) for pattern in ours], system
    return None, None


def check_arrows(path, quoted, system):
    ours, allowed = rule_for(path)
    if ours is None and not path.startswith(FREE):
        yield f"{path}: lies in a folder that no rule speaks of"
    for name in quoted:
        # A name without a folder is generated ($(O)/gen) and has no place in the order.
        if ours is not None and "/" in name and not any(depth_match(name, p) for p in ours):
            yield f"{path}: must not include {name}"
        elif ours is not None and name in TOP and not any(depth_match(path, p) for p in MAY_SEE_TOP):
            yield f"{path}: must not include {name}, which stands above it"
    for name in system:
        if allowed is not None and name not in allowed:
            yield f"{path}: must not include <{name}>"


def check_names(root, path, quoted, system):
    """Names start at the top folder, so that every one can be held against the rules."""
    for name in quoted:
        if "/" in name and not os.path.exists(os.path.join(root, name)):
            yield f"{path}: includes {name}, which does not exist"
        if "/" not in name and os.path.exists(os.path.join(root, os.path.dirname(path), name)):
            yield f"{path}: includes {name} without its folder"
    for name in system:
        if name.split("/")[0] in FOLDERS:
            yield f"{path}: includes <{name}> as if it were the system's"


def check_own_header(graph, path):
    own = path[:-2] + ".h"
    if path.endswith(".c") and own in graph and own not in graph[path]:
        yield f"{path}: does not include its own header {own}"


def check_cycles(graph):
    """Depth first; a name met again on the way down closes a circle."""
    done = set()

    def walk(path, way):
        if path in way:
            yield " -> ".join(way[way.index(path):] + [path]) + ": a circle"
        elif path not in done and path in graph:
            for name in graph[path]:
                yield from walk(name, way + [path])
            done.add(path)

    for path in graph:
        yield from walk(path, [])


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    graph, wrong = {}, []
    for path in sources(root):
        quoted, system = includes(root, path)
        graph[path] = quoted
        wrong += check_arrows(path, quoted, system)
        wrong += check_names(root, path, quoted, system)
    for path in graph:
        wrong += check_own_header(graph, path)
    wrong += check_cycles(graph)
    print("\n".join(wrong), end="\n" if wrong else "")
    print(f"includes: {len(graph)} files, {len(wrong)} breaches")
    return 1 if wrong or not graph else 0


if __name__ == "__main__":
    sys.exit(main())
