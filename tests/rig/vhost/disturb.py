# SPDX-License-Identifier: Apache-2.0
"""What happens to the devices while the guest's load runs: replacements, deaths, memory that comes and goes."""

import os
import signal
import threading
import time

from guest import SLOTS
from rig import Failure, wait_until

RECOVERY_S = 20


class Disturbance(threading.Thread):
    """A thread that goes on until it is told to stop, or is done.  What goes wrong in it is raised by join_it()."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.failure = None

    def run(self):
        try:
            self.body()
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure

    def body(self):
        raise NotImplementedError

    def join_it(self, seconds=60):
        self.join(seconds)
        if self.failure is not None:
            raise Failure(f"{type(self).__name__}: {self.failure!r}")
        if self.is_alive():
            raise Failure(f"{type(self).__name__} does not end")


class Replacer(Disturbance):
    """Has one device replaced `times` times, `rate` times a second."""

    def __init__(self, api, ident, times, rate):
        super().__init__()
        self.api = api
        self.device = ident
        self.times = times
        self.period = 1 / rate
        self.done = 0
        self.in_flight = 0   # of those, how many left requests to the successor
        self.generation = 0  # the last successor
        self.late = 0        # answered by a no: something else came first, such as a death

    def body(self):
        due = time.monotonic()
        while self.done < self.times and not self.stop.is_set():
            status, answer = self.api.ask("POST", f"/devices/{self.device}/replace")
            if status == 200:
                self.done += 1
                if answer["to"] <= self.generation:
                    raise Failure(f"generation {answer['to']} of {self.device} came after {self.generation}")
                self.generation = answer["to"]
                self.in_flight += answer["in_flight"] > 0
            elif status == 409:
                self.late += 1
            else:
                raise Failure(f"replacement of {self.device}: {status} {answer}")
            due = max(due + self.period, time.monotonic() - self.period)
            self.stop.wait(max(0, due - time.monotonic()))


class Killer(Disturbance):
    """Kills a device's process by SIGKILL, each device in its turn, every `period` seconds.

    A process that was replaced just then is not killed: the signal goes to a descriptor of the process that
    the API still names after it was opened.  One that is on its way out may get it; that is no recovery.
    """

    def __init__(self, api, idents, period):
        super().__init__()
        self.api = api
        self.idents = idents
        self.period = period
        self.killed = dict.fromkeys(idents, 0)

    def _kill(self, ident):
        device = self.api.get(f"/devices/{ident}")
        pid = device["pid"]
        if pid == 0:
            return False
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if self.api.get(f"/devices/{ident}")["pid"] != pid:
                return False
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        self.killed[ident] += 1
        wait_until(RECOVERY_S, f"{ident} recovers", lambda: self._recovered(ident, device["generation"]))
        return True

    def _recovered(self, ident, generation):
        device = self.api.get(f"/devices/{ident}")
        return device["state"] == "active" and device["generation"] > generation

    def body(self):
        turn = 0
        while not self.stop.wait(self.period):
            ident = self.idents[turn % len(self.idents)]
            while not self._kill(ident) and not self.stop.is_set():
                pass
            turn += 1


class Dimms:
    """DIMMs that are added, used by the guest, and ejected."""

    SIZES_MIB = (128, 256)
    REFUSED_MAX = 20
    OST_OK = 0
    OST_INSERTED = (1, 0x200)

    def __init__(self, run, guest, qmp):
        self.run = run
        self.guest = guest
        self.qmp = qmp
        self.added = self.removed = self.refused = 0
        self.add_ms, self.remove_ms = [], []
        self.high_kib = 0

    def _memory_lines(self):
        return self.guest.console.find(r"^DEMO-GUEST: memory mib=\d+ wrong=(\d+) disk=(\w+) high_kib=(\d+)$")

    def _used(self, seen):
        """Once a round of the guest's that began after `seen` of them were over has ended."""
        return len(self._memory_lines()) >= seen + 2

    def slot(self):
        """Another than the last: the guest looks once more at what it ejected, and is not to find the next there."""
        return self.added % SLOTS

    def add(self, mib):
        name = f"dimm{self.added}"
        self.qmp.command("object-add", **{"qom-type": "memory-backend-memfd", "id": name + "-memory",
                                          "size": mib << 20, "share": True})
        begun = time.monotonic()
        self.qmp.command("device_add", driver="pc-dimm", id=name, memdev=name + "-memory", slot=self.slot())
        self.add_ms.append((time.monotonic() - begun) * 1000)
        self.added += 1
        event = self.qmp.event(60, f"the guest takes {name}", lambda event, data: (
            event == "ACPI_DEVICE_OST" and data["info"].get("device") == name
            and data["info"]["source"] in self.OST_INSERTED))
        self.run.expect(event["data"]["info"]["status"] == self.OST_OK, f"the guest did not take {name}")
        return name

    def use(self):
        """Until the guest has used what memory it has, from some time after this call."""
        seen = len(self._memory_lines())
        self.run.wait_running(90, "the guest uses its memory", lambda: self._used(seen))
        self.high_kib += sum(int(kib) for _, _, kib in self._memory_lines()[seen:])

    def refuse(self, why):
        """Something in it was in use for too long: it is asked for again, but not for ever."""
        self.refused += 1
        if self.refused > self.REFUSED_MAX:
            raise Failure(f"the guest does not eject its DIMMs: {why}")

    def remove(self, name):
        begun = time.monotonic()
        while True:
            self.qmp.command("device_del", id=name)
            event = self.qmp.event(90, f"the guest ejects {name}", lambda event, data: (
                event in ("DEVICE_DELETED", "MEM_UNPLUG_ERROR") and data.get("device") == name))
            if event["event"] == "DEVICE_DELETED":
                break
            self.refuse(event["data"])
        self.remove_ms.append((time.monotonic() - begun) * 1000)
        self.qmp.command("object-del", id=name + "-memory")
        self.removed += 1

    def once(self):
        name = self.add(self.SIZES_MIB[self.added % len(self.SIZES_MIB)])
        self.use()
        self.remove(name)

    def check(self):
        lines = self._memory_lines()
        self.run.expect(self.added > 0 and self.added == self.removed,
                        f"{self.added} DIMMs added, {self.removed} removed")
        self.run.expect(all(wrong == "0" and disk == "ok" for wrong, disk, _ in lines),
                        "what the guest had in its memory is wrong")
        self.run.expect(self.high_kib > 0, "the guest did no disk I/O from its DIMMs")
