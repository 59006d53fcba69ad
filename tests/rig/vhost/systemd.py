#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""systemd.py: `make check-vhost-systemd`.  The packaged units as systemd runs them, under a guest's load.

`make install` puts mayfly and its units into a machine of this run's own (machine.sh), in which systemd is process 1
and all that the unit says of privileges is in force.  The guest and its disks are those of demo.py, both in one service.
Its QEMU is started before the service, which its connection starts.  Then, while the load runs, the service is restarted
(SIGTERM, which drains) and its main process killed by SIGKILL (Restart=always), COUNT times by turns.  In the end
nothing is lost, as in restart.py, and the service ends well.

Only for root, where systemd is installed and such a machine can be made; else this is skipped, and its last line says
why.  The host is left as it was: its mounts, control groups, /dev, units and journal.

  COUNT=N           restarts and kills (10)            VHOST_SLOW=N    what all deadlines are multiplied by (1)
"""

import json
import os
import signal
import subprocess
import sys
import time

from backend import Disk
from guest import QemuGuest, check_images
from restart import wait_written
from rig import SLOW, TOP, Failure, Run, wait_until

COUNT = int(os.environ.get("COUNT") or 10)
SYSTEMD = "/lib/systemd/systemd"
MACHINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "machine.sh")
# machine.sh mounts, and the host must not see it.
PRIVATELY = ("unshare", "--mount", "--propagation", "private")
SKIPPED = 77
DISK_MIB = 256
REFILL_MIB = 16
LOAD_S = 0.5

SERVICE = "mayfly-vhost-user@d0.service"
SOCKETS = ("mayfly-vhost-user@d0.socket", "mayfly-d1.socket")
TARGET = "rig.target"
UNITS = {
    # As docs/vhost-user.md and the unit files say: images that are written, and a socket for each further device.
    SERVICE + ".d/rig.conf": f"[Unit]\nRequires={SOCKETS[1]}\n\n[Service]\nReadWritePaths=/srv\nSockets={SOCKETS[1]}\n",
    SOCKETS[1]: "[Socket]\nListenStream=/run/mayfly-vhost-user/d1.sock\nFileDescriptorName=d1\nSocketMode=0660\n"
                f"RemoveOnStop=yes\nService={SERVICE}\n",
    # Nobody else asks for journald: machine.sh drops what is to start by itself.
    TARGET: f"[Unit]\nWants=systemd-journald.service {' '.join(SOCKETS)}\n",
}


class Skipped(Exception):
    """Why this cannot be run here."""


class Machine:
    """systemd, in a process of the run's."""

    def __init__(self, run, disks):
        self.run = run
        self.dir = run.path("machine")
        self.child = None
        self.pid = 0
        os.makedirs(os.path.join(self.dir, "srv"))
        for disk in disks:
            os.rename(disk.image, os.path.join(self.dir, "srv", disk.id + ".img"))
            disk.image = os.path.join(self.dir, "srv", disk.id + ".img")
        self._write("etc/mayfly/d0.json", json.dumps({
            "drives": [{"drive_id": d.id, "path_on_host": f"/srv/{d.id}.img", "is_root_device": False} for d in disks],
            "mayfly": {"devices": {d.id: {"queues": d.queues} for d in disks}}}))
        for name, text in UNITS.items():
            self._write(os.path.join("etc/systemd/system", name), text)

    def _write(self, name, text):
        path = os.path.join(self.dir, "root", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def install(self):
        """By `make install`, with the variables of the make that this was started by (O=, CC=, ...), which are in the
        environment.  Where there is none, it is what `make` makes."""
        subprocess.run(["make", "-C", TOP, "install", "PREFIX=/usr", f"DESTDIR={os.path.join(self.dir, 'root')}"],
                       stdout=subprocess.DEVNULL, check=True)

    def start(self):
        self.child = self.run.start("machine", [*PRIVATELY, MACHINE, "start", self.dir, TARGET])
        wait_until(30, "the machine is made", lambda: self._is_made() or self.child.poll() is not None)
        if not self._is_made():
            raise Skipped(f"no machine for systemd can be made here: {self._last_words()}")
        self.pid = self.run.wait_running(10, "the machine's first process", self._first)
        self.run.wait_running(30, "systemd has started", lambda: self.is_active(TARGET))

    def _is_made(self):
        """Whether only systemd was left to run: what goes wrong from then on is no reason to skip this."""
        return os.path.exists(os.path.join(self.dir, "srv", "made"))

    def _last_words(self):
        with open(self.run.path("machine.log"), errors="replace") as log:
            lines = log.read().split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"status {self.child.returncode}")

    def _first(self):
        """Process 1 of the machine; 0: there is none.  Before that the child has others, of machine.sh's."""
        try:
            with open(f"/proc/{self.child.pid}/task/{self.child.pid}/children") as file:
                pids = file.read().split()
            for pid in pids:
                with open(f"/proc/{pid}/status") as file:
                    numbers = next(line.split()[1:] for line in file if line.startswith("NSpid:"))
                if len(numbers) > 1 and numbers[-1] == "1":
                    return int(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass
        return 0

    def stop(self):
        """Ends all that is in it, and removes its control groups.  Not by Run.end(): unshare ignores SIGTERM."""
        if self.child is None:
            return
        if self.child.poll() is None:
            os.kill(self._first() or self.child.pid, signal.SIGKILL)
        self.run.wait(self.child, 20)
        done = subprocess.run([*PRIVATELY, MACHINE, "remove", self.dir], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        # Where no machine could be made, there may be nothing to mount for this either.
        self.run.expect(done.returncode == 0 or not self._is_made(), f"control groups are left: {done.stderr.strip()}")

    def path(self, name):
        """A file of the machine's, such as a socket in its /run."""
        return f"/proc/{self.pid}/root{name}"

    def call(self, *argv, check=True):
        done = subprocess.run(["nsenter", "-t", str(self.pid), "-a", *argv], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60 * SLOW, check=False)
        if check and done.returncode != 0:
            raise Failure(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def is_active(self, unit):
        return self.call("systemctl", "is-active", unit, check=False) == "active"

    def ask(self, unit, what):
        return self.call("systemctl", "show", "--value", "-p", what, unit)

    def write_journal(self):
        if not self.pid:
            return
        with open(self.run.path("journal.log"), "w") as file:
            file.write(self.call("journalctl", "-q", "-o", "short-monotonic", "_TRANSPORT=journal", "+",
                                 "_TRANSPORT=stdout", check=False))


def restart(run, machine, disks, number):
    """By turns politely and not."""
    pid = machine.ask(SERVICE, "MainPID")
    if number % 2 == 1:
        machine.call("systemctl", "restart", SERVICE)
    else:
        machine.call("systemctl", "kill", "--kill-whom=main", "-s", "KILL", SERVICE)
    # Ready: it has the images' locks, so that no process of the last can write any more.
    run.wait_running(30, "the service runs again",
                     lambda: machine.is_active(SERVICE) and machine.ask(SERVICE, "MainPID") not in ("0", pid))
    wait_written(run, disks)


def check(run, machine, disks):
    for disk in disks:
        disk.socket = machine.path(f"/run/mayfly-vhost-user/{disk.id}.sock")
    run.expect(not machine.is_active(SERVICE), "the service runs before anybody has connected")
    guest = QemuGuest(run, disks, f"demo.refill={REFILL_MIB}")
    guest.start()
    run.note(machine.call("systemctl", "status", "--no-pager", "-n", "0", SERVICE).splitlines()[0])
    wait_written(run, disks)
    for number in range(1, COUNT + 1):
        time.sleep(LOAD_S)
        restart(run, machine, disks, number)
    verdict = guest.stop()
    machine.call("systemctl", "stop", SERVICE, *SOCKETS)
    result = machine.ask(SERVICE, "Result")
    print(f"{(COUNT + 1) // 2} restarts, {COUNT // 2} kills; the guest waited {verdict.number('slowest_ms')} ms at most; "
          f"{verdict.number('verified') >> 20} MiB written and verified, "
          f"{verdict.number('hammered') >> 20} MiB overwritten", flush=True)
    run.expect(result == "success", f"the service ended with {result}")
    run.expect(machine.call("ls", "/run/mayfly-vhost-user") == "", "sockets are left")
    check_images(run, disks)


def main():
    if os.geteuid() != 0 or not os.path.exists(SYSTEMD):
        print("skipped: " + ("only root can" if os.geteuid() != 0 else f"there is no {SYSTEMD}"))
        return SKIPPED
    skipped = None
    with Run("check-vhost-systemd") as run:
        disks = [Disk(run, "d0", 1, DISK_MIB), Disk(run, "d1", 2, DISK_MIB)]
        machine = Machine(run, disks)
        machine.install()
        try:
            machine.start()
            check(run, machine, disks)
        except Skipped as why:
            skipped = why
        finally:
            try:
                machine.write_journal()
            finally:
                machine.stop()
    if skipped and not run.failed:
        print(f"skipped: {skipped}")
        return SKIPPED
    return run.verdict(f"nothing was lost, in {run.seconds():.0f} s")


if __name__ == "__main__":
    sys.exit(main())
