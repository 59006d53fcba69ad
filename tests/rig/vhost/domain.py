#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""domain.py: `make demo-vhost-libvirt`.  docs/vhost-user-domain.xml under Debian's libvirt, as it is.

libvirtd runs by hand as an ordinary user's session daemon (qemu:///session), with all of its folders in this
run's, so that it needs neither systemd nor root nor anything of the system's libvirt.  Only paths, the kernel's
command line and the load's control disk are put into the domain file.  While the guest's load runs, its disks'
processes are replaced 5 times a second and killed now and then, and memory is attached and detached by virsh;
in the end nothing is lost, as in demo.py.

libvirtd starts QEMU as a daemon; reaper.py sees to it that none outlives libvirtd, and libvirtd not this.
libvirt wants its user to have an account, and is another daemon when that is root: vhost.sh makes it `nobody`.

  VHOST_SECONDS=N   how long (40)      VHOST_RATE=N    replacements of each disk a second (5)
  MAYFLY=FILE       the program (build/mayfly)         VHOST_SLOW=N    what all deadlines are multiplied by (1)
"""

import os
import pwd
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

from backend import Backend, Disk
from demo import disturb, show_devices, show_dimms
from disturb import Dimms
from guest import INITRD, KERNEL, Console, Guest, check_images, command_line
from rig import SLOW, TOP, Failure, Run, wait_until

DOMAIN = os.path.join(TOP, "docs", "vhost-user-domain.xml")
URI = "qemu:///session"
SECONDS = int(os.environ.get("VHOST_SECONDS") or 40)
RATE = int(os.environ.get("VHOST_RATE") or 5)
DISK_MIB = 256
REFILL_MIB = 16
REAPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reaper.py")


class Libvirt:
    """One session daemon, whose folders are all in the run's."""

    def __init__(self, run):
        self.run = run
        self.child = None
        self.env = dict(os.environ, HOME=run.path("home"), XDG_RUNTIME_DIR=run.path("r"),
                        XDG_CONFIG_HOME=run.path("c"), XDG_CACHE_HOME=run.path("k"),
                        PATH=os.environ["PATH"] + ":/usr/sbin",
                        LIBVIRT_AUTOSTART="0")  # virsh would start a daemon of its own, which stays
        for name in ("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"):
            self.env.pop(name, None)
        for name in ("home", "r", "c", "k"):
            os.mkdir(run.path(name), 0o700)
        # Else each QEMU's output would go through one more daemon, which stays.
        os.mkdir(run.path("c/libvirt"))
        with open(run.path("c/libvirt/qemu.conf"), "w") as file:
            file.write('stdio_handler = "file"\n')

    def start(self):
        self.child = self.run.start("libvirtd", [sys.executable, REAPER, "libvirtd"], signal.SIGTERM, env=self.env)
        self.run.wait_running(20, "libvirtd answers", lambda: self.virsh("version", check=False).returncode == 0)

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        status = self.run.wait(self.child, 20)
        self.run.expect(status == 0, f"libvirtd ended with status {status}")

    def virsh(self, *arguments, check=True):
        done = subprocess.run(["virsh", "-q", "-c", URI, *arguments], env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60 * SLOW, check=False)
        if check and done.returncode != 0:
            raise Failure(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def watch(self):
        """What happens to domains, a line each in events.log."""
        return self.run.start("events", ["stdbuf", "-oL", "virsh", "-c", URI, "event", "--all", "--loop"], env=self.env)

    def qemu_log(self):
        return self.run.path("k/libvirt/qemu/log/mayfly.log")


def fill_in(tree, run, disks, control):
    """What the file says for a real host, as it is for this run."""
    root = tree.getroot()
    values = {
        "os/kernel": KERNEL,
        "os/initrd": INITRD,
        "os/cmdline": f"{command_line(len(disks))} demo.refill={REFILL_MIB}",
        "on_reboot": "destroy",
    }
    for path, text in values.items():
        root.find(path).text = text
    for source in root.findall("devices/*/source"):
        source.set("path", run.path(os.path.basename(source.get("path"))))
    sockets = [source.get("path") for source in root.findall("devices/disk/source")]
    run.expect(sockets == [disk.socket for disk in disks], f"{DOMAIN} has the disks {sockets}")
    root.find("devices").append(ElementTree.fromstring(
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{control}'/>"
        "<target dev='vdc' bus='virtio'/><readonly/></disk>"))


class LibvirtGuest(Guest):
    def __init__(self, run, libvirt, disks):
        super().__init__(run)
        self.libvirt = libvirt
        self.disks = disks
        self.qemu = None
        self.watcher = None

    def start(self):
        tree = ElementTree.parse(DOMAIN)
        fill_in(tree, self.run, self.disks, self.control)
        tree.write(self.run.path("domain.xml"))
        self.libvirt.virsh("create", self.run.path("domain.xml"))
        with open(self.run.path("r/libvirt/qemu/run/mayfly.pid")) as file:
            self.qemu = os.pidfd_open(int(file.read()))
        self.watcher = self.libvirt.watch()
        self.wait_load()

    def ended(self):
        """Whether QEMU has; a descriptor of a process is readable then."""
        return bool(select.select([self.qemu], [], [], 0)[0])

    def stop(self):
        self.tell_to_stop()
        self.run.end(self.watcher)
        wait_until(120, "QEMU ends", self.ended)
        os.close(self.qemu)
        wait_until(20, "libvirt sees it", lambda: not self.libvirt.virsh("list", "--name", "--all").stdout.strip())
        return self.verdict()


class VirshDimms(Dimms):
    """The same, by virsh."""

    XML = ("<memory model='dimm' access='shared'><target><size unit='MiB'>{}</size><node>0</node></target>"
           "<address type='dimm' slot='{}'/></memory>")

    def __init__(self, run, guest):
        super().__init__(run, guest, None)
        self.events = Console(run.path("events.log"))
        self.file = run.path("dimm.xml")

    def add(self, mib):
        with open(self.file, "w") as file:
            file.write(self.XML.format(mib, self.slot()))
        begun = time.monotonic()
        self.guest.libvirt.virsh("attach-device", "mayfly", self.file)
        self.add_ms.append((time.monotonic() - begun) * 1000)
        self.added += 1
        return self._aliases()[-1]

    def _aliases(self):
        tree = ElementTree.fromstring(self.guest.libvirt.virsh("dumpxml", "mayfly").stdout)
        return [alias.get("name") for alias in tree.findall("devices/memory/alias")]

    def _answer(self, name, refusals):
        """Of the guest, to whom it was said that it is to go: whether it did, or did not want to."""
        if name not in self._aliases():
            return "gone"
        return "refused" if len(self._refusals(name)) > refusals else None

    def _refusals(self, name):
        return self.events.find(rf"^event 'device-removal-failed' for domain .*: {name}$")

    def remove(self, name):
        begun = time.monotonic()
        while True:
            refusals = len(self._refusals(name))
            self.guest.libvirt.virsh("detach-device-alias", "mayfly", name)
            answer = self.run.wait_running(90, f"the guest ejects {name}", lambda: self._answer(name, refusals))
            if answer == "gone":
                break
            self.refuse(answer)
        self.remove_ms.append((time.monotonic() - begun) * 1000)
        self.removed += 1


def demo(run):
    disks = [Disk(run, "d0", 1, DISK_MIB), Disk(run, "d1", 2, DISK_MIB)]
    backend = Backend(run, disks)
    libvirt = Libvirt(run)
    guest = LibvirtGuest(run, libvirt, disks)
    backend.start()
    libvirt.start()
    run.note(" / ".join(libvirt.virsh("version").stdout.strip().splitlines()[-2:]))
    guest.start()
    try:
        replacers, killer, dimms = disturb(run, backend.api, VirshDimms(run, guest), disks, SECONDS, RATE)
        devices = backend.api.devices()
        verdict = guest.stop()
    finally:
        if os.path.exists(libvirt.qemu_log()):
            os.rename(libvirt.qemu_log(), run.path("qemu.log"))
    libvirt.stop()
    backend.stop()
    show_devices(run, devices, replacers, killer)
    show_dimms(dimms)
    print(f"guest: {verdict.number('verified') >> 20} MiB written and verified", flush=True)
    dimms.check()
    check_images(run, disks)


def main():
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        print(f"libvirt wants its user to have an account, and {os.geteuid()} has none")
        return 77
    with Run("demo-vhost-libvirt") as run:
        demo(run)
    return run.verdict(f"all of it holds, in {run.seconds():.0f} s")


if __name__ == "__main__":
    sys.exit(main())
