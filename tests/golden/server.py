"""A patchbay server that a script starts, asks and stops."""

import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Gone(Exception):
    """The server has stopped, or does not answer."""


class Server:
    """A running `patchbay serve` without models, to be used in a `with`."""

    def __init__(self, binary: Path, patience: float = 30.0):
        self.binary, self.patience = binary, patience

    def __enter__(self) -> "Server":
        self.log = tempfile.NamedTemporaryFile("w+", prefix="patchbay-", suffix=".log")
        command = [self.binary, "serve", "--port", "0", "--log", "warn"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if "http" not in line:
            raise Gone(f"it does not start: {self.said()}")
        self.url = line.split()[-1]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def said(self) -> str:
        """What it has written to standard error."""
        return Path(self.log.name).read_text(encoding="utf-8", errors="replace")

    def panics(self) -> list[str]:
        """Lines of standard error that tell of a panic."""
        return [line for line in self.said().splitlines() if "panicked" in line]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON, a problem included; nothing where the answer is empty."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.patience) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            return {"problem": json.loads(error.read() or b"{}")}
        except OSError as error:
            raise Gone(f"{method} {path}: {error}; its exit status is {self.process.poll()}: {self.said()[-500:]}")
        return json.loads(text) if text else None

    def load(self, name: str, folder: Path) -> str | None:
        """Loads a folder; returns why it cannot be loaded."""
        begin = time.monotonic()
        view = self.ask("PUT", f"/v1/models/{name}", {"source": str(folder)})
        while view.get("status") == "loading":
            if time.monotonic() - begin > self.patience:
                raise Gone(f"loading {folder} takes more than {self.patience:.0f} s")
            time.sleep(0.005)
            view = self.ask("GET", f"/v1/models/{name}")
        return None if view.get("status") == "ready" else view.get("error") or json.dumps(view)

    def unload(self, name: str):
        """Forgets a model, loaded or not."""
        self.ask("DELETE", f"/v1/models/{name}")
