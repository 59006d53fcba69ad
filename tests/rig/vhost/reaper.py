#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""reaper.py COMMAND [ARGUMENT]..: runs a command none of whose descendants outlives it, daemons included.

They become this process's children, which collects them as they end, and kills those that are there when
the command has ended.  SIGTERM is passed on.  The exit status is the command's; 3 when any had to be killed.
"""

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36
KILLED = 3


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def collect(command):
    """Until the command has ended; its exit status as a shell has it."""
    while True:
        pid, status = os.wait()
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def kill_the_rest():
    """Children of those that are killed become this one's: until there are none."""
    killed = False
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return killed
        if pid == 0:
            for child in children():
                print(f"reaper: kills process {child}, which was left", flush=True)
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                killed = True


def main():
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Not before there is a command to pass it on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    command = os.fork()
    if command == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os.execvp(sys.argv[1], sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(command, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    status = collect(command)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return KILLED if kill_the_rest() else status


if __name__ == "__main__":
    sys.exit(main())
