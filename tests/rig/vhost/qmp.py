# SPDX-License-Identifier: Apache-2.0
"""QMP: commands and events of one QEMU, each with a deadline."""

import json
import socket
import time

from rig import SLOW, Failure, wait_until

COMMAND_S = 30


class Qmp:
    def __init__(self, path):
        self.socket = wait_until(10, f"QEMU listens at {path}", lambda: self._connect(path))
        self.pending = b""
        self.events = []
        self._next(time.monotonic() + COMMAND_S * SLOW)
        self.command("qmp_capabilities")

    @staticmethod
    def _connect(path):
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            s.close()
            return None
        return s

    def _next(self, deadline):
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            data = self.socket.recv(65536)
            if not data:
                raise Failure("QEMU closed its QMP socket")
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def command(self, name, **arguments):
        """What it returned; Failure when it was refused."""
        text = json.dumps({"execute": name, "arguments": arguments})
        self.socket.sendall(text.encode() + b"\n")
        deadline = time.monotonic() + COMMAND_S * SLOW
        try:
            while True:
                answer = self._next(deadline)
                if "event" in answer:
                    self.events.append(answer)
                elif "error" in answer:
                    raise Failure(f"{text}: {answer['error']['desc']}")
                else:
                    return answer["return"]
        except TimeoutError:
            raise Failure(f"{text}: no answer within {COMMAND_S * SLOW:.0f} s") from None

    def event(self, seconds, text, wanted):
        """The next event for which wanted(name, data); those before it are forgotten."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            try:
                event = self.events.pop(0) if self.events else self._next(deadline)
            except TimeoutError:
                raise Failure(f"{text}: not within {seconds * SLOW:.0f} s") from None
            if "event" in event and wanted(event["event"], event.get("data", {})):
                return event
