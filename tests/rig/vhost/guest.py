# SPDX-License-Identifier: Apache-2.0
"""The guest: Debian's stock kernel in QEMU (TCG, or VHOST_ACCEL), whose disks are the back-end's.

The initial file system is the nested rig's: guest-init.sh makes, mounts and loads a file system on each
disk, until the control disk (QEMU's own, read-only) says stop; then it checks everything and says so.
"""

import os
import re
import subprocess

from qmp import Qmp
from rig import NESTED, Failure, wait_until

KERNEL = os.path.join(NESTED, "kernel", "vmlinuz")
INITRD = os.path.join(NESTED, "guest.cpio")
ACCEL = os.environ.get("VHOST_ACCEL") or "tcg,thread=multi"
MEMORY_MIB = int(os.environ.get("VHOST_MEMORY") or 512)
MEMORY_MAX = "4G"
SLOTS = 8
WRITERS, HAMMERS = 2, 4
LONGEST_S = 1200
MOVE_MIB_S, MOVE_S = 512, 120
VDX = "abcdefgh"


def command_line(disks):
    """The kernel's.  The control disk is the last.  What memory comes, the kernel onlines, and movable."""
    names = [f"vd{VDX[i]}" for i in range(disks + 1)]
    return " ".join((
        "console=hvc0 quiet panic=-1 memhp_default_state=online_movable",
        f"demo.disk={','.join(names[:-1])} demo.control={names[-1]}",
        f"demo.writers={WRITERS} demo.hammers={HAMMERS} demo.seconds={LONGEST_S}"))


class Console:
    """What the guest says, as far as it is written by now."""

    def __init__(self, path):
        self.path = path

    def text(self):
        try:
            with open(self.path, "rb") as file:
                return file.read().decode(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    def find(self, pattern):
        return re.findall(pattern, self.text(), re.MULTILINE)


class Verdict:
    """The guest's last line, and what must hold of it."""

    def __init__(self, run, console):
        lines = console.find(r"^DEMO-GUEST: (files=.*)$")
        if not lines:
            raise Failure("the guest gave no verdict")
        self.line = lines[-1]
        self.fields = dict(part.split("=", 1) for part in self.line.split())
        for key in ("errors", "kernel_messages"):
            run.expect(self.fields[key] == "0", f"the guest has {key}={self.fields[key]}")
        run.expect(self.fields["md5"] == "ok", "md5sum disagrees")
        run.expect(self.fields["fsck"] == "clean", "the guest's fsck found errors")
        run.expect(self.fields["kept"] != "wrong", "what was kept is wrong")
        run.expect(self.number("verified") > 0, "the guest read back nothing")
        run.expect(self.fields["verified"] == self.fields["bytes"], "not every byte was read back")

    def number(self, key):
        return int(self.fields[key])


class Guest:
    """What is told to it and asked of it; who starts it is one of the classes that follow."""

    def __init__(self, run):
        self.run = run
        self.control = run.path("control.img")
        self.console = Console(run.path("console.log"))
        with open(self.control, "wb") as file:
            file.truncate(4096)

    def wait_load(self):
        """Until its load runs."""
        up = self.said(90, "the guest boots", r"^DEMO-GUEST: (up after .*)$")
        self.run.note(f"guest is {up}, {self.run.seconds():.0f} s after the start of it all")
        self.said(90, "the load runs", r"^DEMO-GUEST: (load runs), ")

    def said(self, seconds, text, pattern):
        """Waits until it has said so; the last time it did."""
        return self.run.wait_running(seconds, text, lambda: self._said(pattern))[-1]

    def _said(self, pattern):
        failed = self.console.find(r"^DEMO-GUEST: failed: .*$")
        if failed:
            raise Failure(failed[0])
        return self.console.find(pattern)

    def tell_to_stop(self):
        with open(self.control, "r+b") as file:
            file.write(b"stop")

    def verdict(self):
        verdict = Verdict(self.run, self.console)
        print(f"guest: {verdict.line}", flush=True)
        return verdict


class QemuGuest(Guest):
    """Started by a command line."""

    def __init__(self, run, disks, words="", rng=None, ram=None):
        super().__init__(run)
        self.disks = disks
        self.words = words
        self.rng = rng  # the socket of an entropy device
        self.ram = ram  # the file that its memory is; None: one of this QEMU's own
        self.child = None
        self.qmp = None
        self.moves = 0

    def _arguments(self):
        path = self.run.path
        arguments = [
            "qemu-system-x86_64", "-accel", ACCEL, "-cpu", "max", "-smp", "2",
            "-machine", "q35,memory-backend=ram", "-m", f"{MEMORY_MIB}M,slots={SLOTS},maxmem={MEMORY_MAX}",
            "-object", f"{self._ram()},id=ram,size={MEMORY_MIB}M,share=on",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", KERNEL, "-initrd", INITRD,
            "-append", f"{command_line(len(self.disks))} {self.words}",
            "-qmp", f"unix:{self._qmp_path()},server=on,wait=off",
            "-serial", f"file:{path('serial.log')}",
            "-chardev", f"file,id=console,path={path('console.log')},append=on",
            "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console",
            *self._rng()]
        for disk in self.disks:
            arguments += [
                "-chardev", f"socket,id={disk.id}-socket,path={disk.socket},reconnect=1",
                "-device", f"vhost-user-blk-pci,id={disk.id},chardev={disk.id}-socket,num-queues={disk.queues}"]
        return arguments + [
            "-drive", f"if=none,id=control,file={self.control},format=raw,readonly=on",
            "-device", "virtio-blk-pci,drive=control"]

    def _ram(self):
        return "memory-backend-memfd" if self.ram is None else f"memory-backend-file,mem-path={self.ram}"

    def _rng(self):
        """QEMU's own, or the back-end's.  That cannot have `reconnect`: QEMU 7.2 asks this device before it waits
        for its socket."""
        if self.rng is None:
            return ["-device", "virtio-rng-pci"]
        return ["-chardev", f"socket,id=rng-socket,path={self.rng}",
                "-device", "vhost-user-rng-pci,chardev=rng-socket"]

    def _qmp_path(self):
        return self.run.path(f"qmp{self.moves}.sock")

    def start(self):
        self.child = self.run.start("qemu", self._arguments())
        self.qmp = Qmp(self._qmp_path())
        self.wait_load()

    def move(self, disks, look):
        """To a second QEMU, whose disks are other back-ends', by a live migration, during which look() is called
        now and then; what QEMU says of it.  Memory that both have is not copied."""
        source, child = self.qmp, self.child
        self.disks = disks
        self.moves += 1
        channel = f"unix:{self.run.path(f'move{self.moves}.sock')}"
        self.child = self.run.start("qemu", self._arguments() + ["-incoming", "defer"])
        self.qmp = Qmp(self._qmp_path())
        for side in (source, self.qmp):
            side.command("migrate-set-capabilities", capabilities=[
                {"capability": "x-ignore-shared", "state": self.ram is not None}])
        source.command("migrate-set-parameters", **{"max-bandwidth": MOVE_MIB_S << 20})
        self.qmp.command("migrate-incoming", uri=channel)
        source.command("migrate", uri=channel)
        said = wait_until(MOVE_S, "the guest moves", lambda: (look(), self._moved(source))[1])
        self.run.wait_running(20, "it goes on", lambda: self.qmp.command("query-status")["running"])
        source.command("quit")
        status = self.run.wait(child, 20)
        self.run.expect(status == 0, f"the QEMU that it left ended with status {status}")
        return said

    @staticmethod
    def _moved(qmp):
        said = qmp.command("query-migrate")
        if said.get("status") in ("failed", "cancelled"):
            raise Failure(f"the migration failed: {said}")
        # QEMU sets the times just after the status: until then they are 0.
        timed = said.get("total-time") and "downtime" in said
        return said if said.get("status") == "completed" and timed else None

    def stop(self):
        """Tells it to end its load; its verdict, when it has powered off."""
        self.tell_to_stop()
        status = self.run.wait(self.child, 120)
        self.run.expect(status == 0, f"QEMU ended with status {status}")
        return self.verdict()


def check_images(run, disks):
    """fsck from outside, by this system's or what the nested rig unpacked."""
    path = ":".join([os.environ["PATH"], "/usr/sbin", "/sbin", os.path.join(NESTED, "pkg", "sbin")])
    for disk in disks:
        check = subprocess.run(["e2fsck", "-f", "-n", disk.image], capture_output=True, text=True,
                               env=dict(os.environ, PATH=path), check=False)
        print(f"  {check.stdout.strip().splitlines()[-1] if check.stdout else check.stderr.strip()}", flush=True)
        run.expect(check.returncode == 0, f"fsck of {disk.id} from outside: {check.returncode}")
