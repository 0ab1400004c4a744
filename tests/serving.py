"""The real program as a process of its own, cut off from every other machine, for tests that look at it from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START_S = 300.0  # eight seconds on an idle machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class App:
    """``python app.py`` on a free port with its own data directory. Use ``wait`` before the first request."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._network_log = data_dir / "network.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STUDIO_", "GRADIO_", "HF_", "SPACE_"))}
        guarded = {"PYTHONPATH": str(ROOT / "tests" / "no_network"), "STUDIO_TEST_NETWORK_LOG": str(self._network_log)}
        self._log = (data_dir / "app.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(self.port), "--data-dir", str(data_dir), *arguments],
            cwd=ROOT,
            env=kept | guarded | {"HF_HOME": str(data_dir / "hf"), "GRADIO_TEMP_DIR": f"{data_dir}-gradio"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def log(self) -> str:
        return (self.data_dir / "app.log").read_text()

    @property
    def attempts(self) -> list[str]:
        """Other hosts that the process tried to reach, with how."""
        return self._network_log.read_text().splitlines() if self._network_log.exists() else []

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            return bytes(response.read())

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/studio/state"))
        return found

    def until(self, claim: Any, what: str, seconds: float = START_S) -> dict[str, Any]:
        """Wait until ``claim(state)`` holds; returns that state."""
        deadline = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, f"the app ended with {self.process.returncode}:\n{self.log}"
            try:
                now = self.state()
                if claim(now):
                    return now
            except OSError:
                now = {}
            assert time.monotonic() < deadline, f"not {what} after {seconds:.0f} s; state {now}, log:\n{self.log}"
            time.sleep(0.1)

    def wait(self) -> App:
        """Until the page answers and the studio has looked at its hardware and loaded its model, or failed to."""
        self.until(lambda now: "device" in now, "ready")
        return self

    def stop(self) -> int:
        """Ask it to end as a service manager does; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._log.close()
