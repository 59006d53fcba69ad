# SPDX-License-Identifier: Apache-2.0
"""What the vhost rig's programs share: a folder, the processes in it, deadlines, and what is expected.

A `Run` owns a new folder for disks, sockets and logs, and all processes that it starts.  Both go with it,
whichever way it ends: processes by their pids, the folder but for its logs, which go to build/vhost/NAME,
or stay where they are when this user cannot write there and something did not hold.
"""

import ctypes
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
NESTED = os.path.join(TOP, "build", "nested")
# What deadlines are multiplied by, for a machine that is slower or busier than most.
SLOW = float(os.environ.get("VHOST_SLOW", "1"))
POLL_S = 0.02
LOGS = ("*.log", "*.json")
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """What ends a run before it is over."""


def wait_until(seconds, text, condition):
    """Waits until condition() is true, and returns what it returned."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failure(f"{text}: not within {seconds * SLOW:.0f} s")
        time.sleep(POLL_S)


def _die_with_parent(number):
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


class Run:
    def __init__(self, name):
        self.name = name
        self.begun = time.monotonic()
        self.failed = []
        self.children = []
        self.dir = tempfile.mkdtemp(prefix="mayfly-vhost.")

    def note(self, text):
        print(f"{self.name}: {text}", flush=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def seconds(self):
        return time.monotonic() - self.begun

    def expect(self, holds, text):
        """A condition of success that does not end the run."""
        if not holds:
            self.note(f"FAILED: {text}")
            self.failed.append(text)
        return holds

    # ---- processes ----

    def start(self, name, argv, death=signal.SIGKILL, **options):
        """Starts a process whose output is appended to NAME.log.  From the main thread only: when that ends,
        however it does, the process gets the signal `death`."""
        with open(self.path(name + ".log"), "ab") as log:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     preexec_fn=lambda: _die_with_parent(death), **options)
        child.name = name
        self.children.append(child)
        return child

    def wait(self, child, seconds):
        """The exit status of a child that is about to end."""
        try:
            status = child.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise Failure(f"{child.name} does not end within {seconds * SLOW:.0f} s") from None
        self.children.remove(child)
        return status

    def end(self, child):
        """By SIGTERM, or else SIGKILL, whatever it is at."""
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self.children.remove(child)

    def running(self):
        """Fails when one of the children has ended."""
        for child in self.children:
            if child.poll() is not None:
                raise Failure(f"{child.name} ended with status {child.returncode}")

    def wait_running(self, seconds, text, condition):
        def look():
            result = condition()
            if not result:
                self.running()
            return result

        return wait_until(seconds, text, look)

    # ---- the end ----

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda n, frame: sys.exit(128 + n))
        return self

    def _end_children(self):
        for child in reversed(self.children.copy()):
            self.end(child)

    def _logs(self):
        return [path for pattern in LOGS for path in sorted(glob.glob(self.path(pattern)))]

    def _show_logs(self):
        for path in self._logs():
            with open(path, errors="replace") as log:
                lines = [line.rstrip() for line in log if not line.startswith("tick ")][-20:]
            if lines and path.endswith(".log"):
                self.note(f"{os.path.basename(path)} ends with")
                print("".join(f"  | {line[:200]}\n" for line in lines), end="", flush=True)

    def _keep(self):
        """Where the logs are from now on; None: nowhere."""
        keep = os.path.join(TOP, "build", "vhost", self.name)
        try:
            shutil.rmtree(keep, ignore_errors=True)
            os.makedirs(keep, exist_ok=True)
            for path in self._logs():
                shutil.copy(path, keep)
        except OSError:
            keep = self.dir if self.failed else None
        for name in os.listdir(self.dir):
            if keep != self.dir:
                break
            if self.path(name) not in self._logs():
                shutil.rmtree(self.path(name), ignore_errors=True)
                if os.path.lexists(self.path(name)):
                    os.unlink(self.path(name))
        if keep != self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
        return keep

    def __exit__(self, kind, value, trace):
        self._end_children()
        if kind is Failure:
            self.expect(False, str(value))
        elif kind is not None:
            self.expect(False, f"{kind.__name__}: {value}")
        if self.failed:
            self._show_logs()
        keep = self._keep()
        if self.failed:
            self.note(f"logs are in {keep}")
        return kind is Failure

    def verdict(self, text):
        """The last line, and the exit status."""
        if not self.failed:
            self.note(text)
        return 1 if self.failed else 0
