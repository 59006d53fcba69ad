# SPDX-License-Identifier: Apache-2.0
"""The back-end: `mayfly vhost-user` with a socket for each disk, and its API."""

import copy
import http.client
import json
import os
import signal
import socket

from rig import TOP, Failure, wait_until

MAYFLY = os.environ.get("MAYFLY", os.path.join(TOP, "build", "mayfly"))
# More deaths than a run makes: what comes of a budget that is spent is shown elsewhere.
DEATH_BUDGET = {"deaths": 64, "seconds": 60}
ANSWER_S = 60
RNG_EVERY_S = 0.2
# As a volume of a cloud has it, and as here the disk and not the guest's CPU is what the load waits for.
RATE_MIB = int(os.environ.get("VHOST_BANDWIDTH") or 40)


class Disk:
    def __init__(self, run, ident, queues, mib):
        self.id = ident
        self.queues = queues
        self.image = run.path(ident + ".img")
        self.socket = run.path(ident + ".sock")
        with open(self.image, "wb") as image:
            image.truncate(mib << 20)

    def at(self, side):
        """The same image, served by another back-end as well."""
        other = copy.copy(self)
        other.socket = f"{self.socket}.{side}"
        return other


class _Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=ANSWER_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    def __init__(self, path):
        self.path = path

    def ask(self, method, what):
        """(status, JSON or None)"""
        connection = _Connection(self.path)
        try:
            connection.request(method, what)
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if body else None
        finally:
            connection.close()

    def get(self, what):
        status, body = self.ask("GET", what)
        if status != 200:
            raise Failure(f"GET {what}: {status} {body}")
        return body

    def devices(self):
        return {device["id"]: device for device in self.get("/devices")}

    def answers(self):
        try:
            return self.get("/devices")
        except OSError:
            return None


class Backend:
    """One back-end; its program may change from start to start, its disks and its folder do not."""

    def __init__(self, run, disks, side=""):
        self.run = run
        self.disks = disks
        self.state_dir = run.path("state" + side)
        self.config = run.path(f"vhost{side}.json")
        self.api = Api(os.path.join(self.state_dir, "api.sock"))
        self.child = None
        os.makedirs(self.state_dir, exist_ok=True)
        self._write(self._config())

    def _write(self, config):
        with open(self.config, "w") as file:
            json.dump(config, file, indent=1)

    def serve_rng(self):
        """An entropy device besides, replaced on a schedule; where its socket is."""
        config = self._config() | {"entropy": {}}
        path = self.run.path("rng.sock")
        config["mayfly"]["devices"]["rng"] = {"socket": path, "rejuvenate": {"every_s": RNG_EVERY_S}}
        self._write(config)
        return path

    def _config(self):
        return {
            "drives": [{"drive_id": d.id, "path_on_host": d.image, "is_root_device": False,
                        "rate_limiter": {"bandwidth": {"size": 1 << 20, "refill_time": 1000 // RATE_MIB}}}
                       for d in self.disks],
            "mayfly": {
                "devices": {d.id: {"socket": d.socket, "queues": d.queues} for d in self.disks},
                "supervisor": {"death_budget": DEATH_BUDGET},
            },
        }

    def start(self, program=MAYFLY, options=()):
        """Starts it; returns when its API answers."""
        self.child = self.run.start("mayfly", [program, "vhost-user", "--config", self.config,
                                               "--state-dir", self.state_dir, *options])
        self.run.wait_running(20, "the back-end's API answers", self.api.answers)

    def kill(self):
        """SIGKILL, and the end of the process."""
        self.child.send_signal(signal.SIGKILL)
        self.run.wait(self.child, 10)

    def stop(self):
        """SIGTERM; its exit status is to be 0."""
        self.child.send_signal(signal.SIGTERM)
        status = self.run.wait(self.child, 20)
        self.run.expect(status == 0, f"the back-end ended with status {status}")

    def wait_sockets(self):
        wait_until(10, "the back-end's sockets", lambda: all(os.path.exists(d.socket) for d in self.disks))
