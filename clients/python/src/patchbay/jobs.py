"""Requests that run while nobody waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import PatchbayError
from .results import Results, escaped, read_results

if TYPE_CHECKING:
    from .client import Patchbay


class Job:
    """A job of a server, which goes on whatever becomes of this program: `Job(bay, id)` finds it again."""

    def __init__(self, bay: Patchbay, id: str):
        self.bay, self.id = bay, id

    def status(self) -> dict[str, Any]:
        """How far it is: `status`, `done`, `of`."""
        return self.bay.request("GET", f"/v1/jobs/{self.id}").json()

    def events(self) -> Iterator[dict[str, Any]]:
        """How far it gets, to its end."""
        return (told for _, told in self.bay._events("GET", f"/v1/jobs/{self.id}/events"))

    def wait(self, progress: Any = None) -> Results:
        """What comes of it, once it is done. `progress` shows how far it is: `tqdm`, or True for tqdm's own choice of a bar.

        Raises `PatchbayError` where it fails or is stopped.
        """
        bar = None
        for told in self.events():
            if progress and bar is None:
                bar = (_tqdm() if progress is True else progress)(total=told["of"], desc=told["kind"])
            if bar is not None:
                bar.update(told["done"] - bar.n)
        if bar is not None:
            bar.close()
        return self.result()

    def result(self) -> Results:
        """What came of it. Raises `PatchbayError` where it has not ended, and what it failed with."""
        return read_results(self.bay.request("GET", f"/v1/jobs/{self.id}/result"))

    def cancel(self) -> None:
        """Stops it, and forgets what came of it."""
        self.bay.request("DELETE", f"/v1/jobs/{self.id}")

    def __repr__(self) -> str:
        return f"Job({self.id!r} at {self.bay.base_url})"

    def _repr_html_(self) -> str:
        try:
            told = self.status()
        except PatchbayError as error:
            return escaped(str(error))
        return f"<b>{escaped(told['kind'])}</b>: {told['status']}, {told['done']} of {told['of']}"


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise PatchbayError({"detail": "a progress bar needs tqdm", "hint": "pip install tqdm"}) from None
    return tqdm
