"""What a server refuses, as one readable paragraph."""

from __future__ import annotations

import linecache
from typing import Any

Line = tuple[str, int]


class PatchbayError(Exception):
    """A refusal: what was found and what was expected (`detail`), where (`pointer`, and `line` of your own code where it is known), and how to mend it
    (`hint`). `code` and `status` are for programs."""

    def __init__(self, problem: dict[str, Any], line: Line | None = None):
        self.status: int = problem.get("status", 0)
        self.code: str = problem.get("code", "unknown")
        self.detail: str = problem.get("detail", "the server failed")
        self.pointer: str | None = problem.get("pointer")
        self.hint: str | None = problem.get("hint")
        self.line = line
        super().__init__(self._told())

    def _told(self) -> str:
        told = self.detail
        if self.line:
            file, number = self.line
            told += f"\n  at {file}:{number}"
            source = linecache.getline(file, number).strip()
            told += f": {source}" if source else ""
        elif self.pointer:
            told += f"\n  at {self.pointer} of the request"
        return told + (f"\n  {self.hint}" if self.hint else "")
