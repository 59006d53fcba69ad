#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""demo.py: `make demo-vhost`.  A stock QEMU and a stock Debian guest whose disks are mayfly's.

`mayfly vhost-user` offers two disks, with one queue and with two, to QEMU (TCG; no privilege is needed).
The guest makes a file system on each, mounts it and loads it: each block that it reads back says what it
should be.  Meanwhile, all at once,

  - each disk's process is replaced 5 times a second by its successor,
  - every few seconds one is killed,
  - DIMMs come, are used for disk I/O, and are ejected again: each is a change of the guest's memory
    that no process here survives, since none can map anything; QEMU waits until the next ones run.

In the end nothing is lost: every byte is as it was written, the file systems are clean as seen by the guest
and from outside, and the guest's kernel has nothing to say.  Exit status 0 only if all of that holds.

  VHOST_SECONDS=N   how long (60)      VHOST_RATE=N    replacements of each disk a second (5)
  VHOST_DISK=MIB    of a disk (256)    VHOST_BANDWIDTH=MIB   of a disk, a second (40)
  VHOST_SLOW=N      what all deadlines are multiplied by (1)
  MAYFLY=FILE       the program (build/mayfly)
"""

import json
import os
import sys
import time

from backend import Backend, Disk
from disturb import Dimms, Killer, Replacer
from guest import QemuGuest, check_images
from rig import Run

SECONDS = int(os.environ.get("VHOST_SECONDS") or 60)
RATE = int(os.environ.get("VHOST_RATE") or 5)
DISK_MIB = int(os.environ.get("VHOST_DISK") or 256)
KILL_PERIOD_S = 4
REFILL_MIB = 16
RATE_REACHED = 0.5  # of RATE, at least, whatever else this machine does
# Of the reasons for a replacement, those that nothing here is to bring about.
UNWANTED = ("seccomp", "hang", "protocol", "ring", "storm", "audit")


def disturb(run, api, dimms, disks, seconds, rate):
    """All of it, for so long and until each disk was replaced as often as that makes."""
    idents = [disk.id for disk in disks]
    replacers = [Replacer(api, ident, seconds * rate, rate) for ident in idents]
    killer = Killer(api, idents, KILL_PERIOD_S)
    begun = time.monotonic()
    for thread in replacers + [killer]:
        thread.start()
    while time.monotonic() - begun < seconds:
        dimms.once()
        run.note(f"{time.monotonic() - begun:3.0f} s: {dimms.removed} DIMMs came and went, "
                 f"{sum(r.done for r in replacers)} replacements, {sum(killer.killed.values())} processes killed")
    killer.stop.set()
    killer.join_it()
    for replacer in replacers:
        replacer.join_it(seconds / RATE_REACHED)
    took = time.monotonic() - begun
    run.note(f"{sum(r.done for r in replacers) / took:.1f} replacements a second")
    return replacers, killer, dimms


def show_devices(run, devices, replacers, killer):
    """The table, and what must hold of each device."""
    columns = "{:<7} {:>10} {:>9} {:>9} {:>7} {:>10} {:>7} {:>19}"
    print(columns.format("device", "generation", "replaced", "in flight", "killed", "recoveries", "memory",
                         "switch us p50/max"))
    for replacer in replacers:
        ident = replacer.device
        device = devices[ident]
        why, switch = device["replacements"], device["switch_us"]
        print(columns.format(ident, device["generation"], replacer.done, replacer.in_flight, killer.killed[ident],
                             why["crash"], why["memory-map"], f"{switch['p50']}/{switch['max']}"), flush=True)
        run.expect(device["state"] == "active", f"{ident} is {device['state']}")
        run.expect(replacer.done == replacer.times, f"{ident}: {replacer.done} replacements")
        # One that was asked for may be one with a change of memory, and is counted as that.
        run.expect(why["operator"] + why["memory-map"] >= replacer.done, f"{ident}: counts itself {why}")
        run.expect(0 < why["crash"] <= killer.killed[ident], f"{ident}: {why['crash']} recoveries")
        run.expect(why["memory-map"] > 0, f"{ident}: no replacement by a change of memory")
        for reason in UNWANTED:
            run.expect(why[reason] == 0, f"{ident}: {why[reason]} generations lost: {reason}")
        run.expect(device["poisoned"] == 0, f"{ident}: {device['poisoned']} requests answered with errors")


def show_dimms(dimms):
    print(f"DIMMs: {dimms.added} added, {dimms.removed} removed, {dimms.refused} refused at first; "
          f"device_add took {max(dimms.add_ms):.0f} ms at most, an ejection {max(dimms.remove_ms):.0f} ms; "
          f"{dimms.high_kib // 1024} MiB of disk I/O from them", flush=True)


def show_rng(run, device, verdict):
    scheduled = device["replacements"]["schedule"]
    print(f"rng: {verdict.number('rng_bytes')} bytes, {scheduled} replacements on its schedule", flush=True)
    run.expect(device["state"] == "active", f"rng is {device['state']}")
    run.expect(scheduled > 0 and verdict.number("rng_bytes") > 0, "the entropy device did nothing")


def demo(run):
    disks = [Disk(run, "d0", 1, DISK_MIB), Disk(run, "d1", 2, DISK_MIB)]
    backend = Backend(run, disks)
    guest = QemuGuest(run, disks, f"demo.refill={REFILL_MIB}", backend.serve_rng())
    backend.start()
    guest.start()
    replacers, killer, dimms = disturb(run, backend.api, Dimms(run, guest, guest.qmp), disks, SECONDS, RATE)
    devices = backend.api.devices()
    with open(run.path("devices.json"), "w") as file:
        json.dump(devices, file, indent=1)
    verdict = guest.stop()
    backend.stop()
    show_devices(run, devices, replacers, killer)
    show_rng(run, devices["rng"], verdict)
    show_dimms(dimms)
    print(f"guest: {verdict.number('verified') >> 20} MiB written and verified, "
          f"{verdict.number('hammered') >> 20} MiB overwritten", flush=True)
    dimms.check()
    check_images(run, disks)


def main():
    with Run("demo-vhost") as run:
        demo(run)
    return run.verdict(f"all of it holds, in {run.seconds():.0f} s")


if __name__ == "__main__":
    sys.exit(main())
