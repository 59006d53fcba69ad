#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""migrate.py: `make demo-vhost-migrate`.  A loaded guest moves between two QEMUs, each with a back-end of its own.

The guest and its disks are those of demo.py, and the images are shared, as on storage that two hosts have.  For
each move a back-end is started with --incoming, and a QEMU with -incoming; then the guest is migrated while its load
runs, its disks' processes are replaced 5 times a second, and now and then one is killed.  The images are locked by
whichever back-end the guest is at.  In the end nothing is lost, as in demo.py.

Both QEMUs have one file for the guest's memory (x-ignore-shared), so that it is not copied, though the devices' writes
are logged for it all the same: QEMU 7.2 without KVM loses writes of its own CPUs when it copies (mended in 9.0,
03bfc2188f06: "physmem: Fix migration dirty bitmap coherency with TCG memory access"), be its disks ours or its own.
That the log has every write is shown by copy.sh, where there is KVM, and by tests/host/test_vhost.c.

  VHOST_MOVES=N     how often (6)                      VHOST_RATE=N    replacements of each disk a second (5)
  VHOST_COPY=1      memory is copied; for QEMU 9.0 and later, or with KVM.  Else it is in /dev/shm, which needs room
  MAYFLY=FILE       the program (build/mayfly)         VHOST_SLOW=N    what all deadlines are multiplied by (1)
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time

from backend import Backend, Disk
from disturb import Killer, Replacer
from guest import MEMORY_MIB, QemuGuest, check_images
from rig import Failure, Run

COPY = os.environ.get("VHOST_COPY") == "1"
MOVES = int(os.environ.get("VHOST_MOVES") or 6)
RATE = int(os.environ.get("VHOST_RATE") or 5)
DISK_MIB = 256
REFILL_MIB = 64  # a quarter of it goes to a disk and comes back, again and again
STAY_S = 3
KILL_PERIOD_S = 1
SHM = "/dev/shm"
F_LOG_ALL = 1 << 26


class Disturbed:
    """Replacements and deaths of one back-end's devices, for as long as this is entered."""

    def __init__(self, api, disks):
        idents = [disk.id for disk in disks]
        self.replacers = [Replacer(api, ident, sys.maxsize, RATE) for ident in idents]
        self.killer = Killer(api, idents, KILL_PERIOD_S)

    def __enter__(self):
        for thread in self.replacers + [self.killer]:
            thread.start()
        return self

    def __exit__(self, *failure):
        for thread in self.replacers + [self.killer]:
            thread.stop.set()
        for thread in self.replacers + [self.killer]:
            thread.join_it()


def logs(api, disks):
    """Whether the writes of all are marked in QEMU's log."""
    front_ends = [api.get(f"/devices/{disk.id}")["front_end"] for disk in disks]
    return all(int(front_end["features"], 16) & F_LOG_ALL for front_end in front_ends)


def move(run, guest, source, target):
    """One move: what QEMU says of it, and what happened to the source's devices."""
    with Disturbed(source.api, source.disks) as disturbed:
        time.sleep(STAY_S)
        target.start(options=["--incoming"])
        logged = []
        said = guest.move(target.disks, lambda: logged.append(logs(source.api, source.disks)))
    run.expect(any(logged), "the devices' writes were not logged")
    source.stop()
    return said, disturbed


def note(run, number, said, disturbed):
    replaced = sum(r.done for r in disturbed.replacers)
    killed = sum(disturbed.killer.killed.values())
    run.note(f"move {number}: {said['total-time']} ms, of which at rest {said['downtime']}; "
             f"{replaced} replacements, {killed} processes killed")
    return replaced, killed


def demo(run, ram):
    disks = [Disk(run, "d0", 1, DISK_MIB), Disk(run, "d1", 2, DISK_MIB)]
    backend = Backend(run, disks)
    guest = QemuGuest(run, disks, f"demo.refill={REFILL_MIB}", ram=ram)
    backend.start()
    guest.start()
    moves = []
    for number in range(1, MOVES + 1):
        target = Backend(run, [disk.at(number) for disk in disks], str(number))
        said, disturbed = move(run, guest, backend, target)
        moves.append((said["downtime"], *note(run, number, said, disturbed)))
        backend = target
    time.sleep(STAY_S)
    devices = backend.api.devices()
    verdict = guest.stop()
    backend.stop()
    rests, replaced, killed = zip(*moves)
    print(f"{MOVES} moves, at rest for {statistics.median(rests):.0f} ms (at most {max(rests)}); "
          f"{sum(replaced)} replacements, {sum(killed)} processes killed meanwhile", flush=True)
    print(f"guest: {verdict.number('verified') >> 20} MiB written and verified, "
          f"{verdict.number('hammered') >> 20} MiB overwritten", flush=True)
    for device in devices.values():
        run.expect(device["state"] == "active", f"{device['id']} is {device['state']}")
    run.expect(all(replaced) and sum(killed) > 0, "nothing happened to the devices")
    check_images(run, disks)


@contextlib.contextmanager
def memory():
    """The file that the guest's memory is, for as long as this is entered; None: it is copied."""
    if COPY:
        yield None
        return
    # Where there is no room, QEMU would be killed by SIGBUS in the midst of it.
    shm = os.statvfs(SHM)
    room, size = (blocks * shm.f_frsize >> 20 for blocks in (shm.f_bavail, shm.f_blocks))
    if room < MEMORY_MIB:
        raise Failure(f"{SHM} has room for {room} MiB, and the guest's memory is {MEMORY_MIB}: mount -o "
                      f"remount,size={size - room + 2 * MEMORY_MIB}M {SHM}, or VHOST_COPY=1 with QEMU 9.0 and later")
    with tempfile.NamedTemporaryFile(prefix="mayfly-vhost.", dir=SHM) as file:
        yield file.name


def main():
    with Run("demo-vhost-migrate") as run, memory() as ram:
        demo(run, ram)
    return run.verdict(f"all of it holds, in {run.seconds():.0f} s")


if __name__ == "__main__":
    sys.exit(main())
