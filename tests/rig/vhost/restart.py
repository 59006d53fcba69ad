#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""restart.py: `make check-vhost-restart`.  The back-end of a loaded guest dies as a whole, again and again.

The guest and its disks are those of demo.py.  While the guest's load runs, `mayfly vhost-user` is ended by SIGKILL
and started again COUNT times: what was in flight is only in the table that QEMU keeps, and QEMU connects
again a second later (reconnect=1).  Then it is ended by SIGTERM, and another build takes its place.  In the end
nothing is lost: no request failed, every byte is as it was written, the file systems are clean.

A restart is over when both images were written to by the new back-end.  Printed is how long that took from the
kill on, and the longest that the guest waited for a write.  Between restarts the load runs for some tenths of a
second.  No back-end is killed before that, while QEMU still negotiates with it: QEMU 7.2 never connects again
then (`vhost-user: fix lost reconnect`, 8.2 and again 9.1).

  COUNT=N           restarts (50)      MAYFLY=FILE    the program (build/mayfly)
  SEED=N            of their times     NEXT=FILE      the other build's (build/vhost/next/mayfly)
  VHOST_SLOW=N      what all deadlines are multiplied by (1)
"""

import os
import random
import statistics
import sys
import time

from backend import MAYFLY, Backend, Disk
from guest import QemuGuest, check_images
from rig import TOP, Run

COUNT = int(os.environ.get("COUNT") or 50)
NEXT = os.environ.get("NEXT") or os.path.join(TOP, "build", "vhost", "next", "mayfly")
SEED = int(os.environ.get("SEED") or time.time())
LOAD_S = (0.05, 0.8)
DISK_MIB = 256
REFILL_MIB = 16
BACK_S = 30
CLOCK_REALTIME_COARSE = 5  # which file times are of


def wait_written(run, disks):
    """Until each image is written to after this call."""
    now = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
    run.wait_running(BACK_S, "the guest's writes reach the disks",
                     lambda: all(os.stat(disk.image).st_mtime_ns > now for disk in disks))


def restart(run, backend, disks):
    """SIGKILL and a start; seconds from the one until the guest's writes arrive again."""
    begun = time.monotonic()
    backend.kill()
    backend.start()
    wait_written(run, disks)
    return time.monotonic() - begun


def change_build(run, backend, disks):
    """SIGTERM, and the start of the other build."""
    version = backend.api.get("/version")["vmm_version"]
    begun = time.monotonic()
    backend.stop()
    backend.start(NEXT)
    wait_written(run, disks)
    took = time.monotonic() - begun
    successor = backend.api.get("/version")["vmm_version"]
    run.expect(successor != version, f"the other build has the same version, {version}")
    run.note(f"version {version} was replaced by {successor}: {took:.2f} s until the guest's writes arrived")


def check(run):
    disks = [Disk(run, "d0", 1, DISK_MIB), Disk(run, "d1", 2, DISK_MIB)]
    backend = Backend(run, disks)
    guest = QemuGuest(run, disks, f"demo.refill={REFILL_MIB}")
    backend.start(MAYFLY)
    guest.start()
    wait_written(run, disks)
    times = []
    chance = random.Random(SEED)
    run.note(f"{COUNT} restarts, SEED={SEED}")
    for number in range(1, COUNT + 1):
        time.sleep(chance.uniform(*LOAD_S))
        times.append(restart(run, backend, disks))
        if number % 10 == 0:
            run.note(f"{number} restarts")
    change_build(run, backend, disks)
    verdict = guest.stop()
    backend.stop()
    if times:
        print(f"{len(times)} restarts: {statistics.median(times):.2f} s from the kill to the guest's writes, "
              f"{max(times):.2f} s at most; the guest waited {verdict.number('slowest_ms')} ms at most", flush=True)
    print(f"guest: {verdict.number('verified') >> 20} MiB written and verified, "
          f"{verdict.number('hammered') >> 20} MiB overwritten", flush=True)
    check_images(run, disks)


def main():
    with Run("check-vhost-restart") as run:
        check(run)
    return run.verdict(f"nothing was lost, in {run.seconds():.0f} s")


if __name__ == "__main__":
    sys.exit(main())
