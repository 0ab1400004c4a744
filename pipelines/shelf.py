"""The models an engine keeps loaded: within a byte budget, least recently used out first.

Knows no queue and no locks: the engine calls it with its own lock held.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipelines.events import CancelToken, Event

log = logging.getLogger(__name__)


class Backend(Protocol):
    """A loaded model that can run a task's params; ``close`` frees its memory."""

    memory_bytes: int

    def run(self, params: Any, cancel: CancelToken) -> Iterator[Event]: ...

    def close(self) -> None: ...


@dataclass
class Shelf:
    """Loaded models, least recently used first, within a byte budget."""

    budget_bytes: int
    models: OrderedDict[str, Backend] = field(default_factory=OrderedDict)
    in_use: dict[str, int] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)

    def fits(self, needed: int) -> bool:
        return sum(b.memory_bytes for b in self.models.values()) + needed <= self.budget_bytes

    def make_room(self, needed: int) -> list[str]:
        """Close unused models, oldest first, until ``needed`` bytes fit; returns the ids that went."""
        gone = []
        for key in list(self.models):
            if self.fits(needed):
                break
            if not self.in_use.get(key):
                self.close(key)
                gone.append(key)
        return gone

    def close(self, key: str) -> None:
        """Drop one model. A backend that fails to close costs its memory, never the engine."""
        backend = self.models.pop(key)
        try:
            backend.close()
        except Exception:
            log.exception("%s could not be closed", key)

    def take(self, key: str, *, hold: bool) -> Backend | None:
        """The loaded model, now the most recently used one; ``hold`` keeps it until ``give_back``."""
        backend = None if key in self.retired else self.models.get(key)
        if backend is not None:
            self.models.move_to_end(key)
            if hold:
                self.in_use[key] = self.in_use.get(key, 0) + 1
        return backend

    def give_back(self, key: str) -> None:
        self.in_use[key] -= 1
        if not self.in_use[key]:
            del self.in_use[key]
            if key in self.retired:
                self.retired.discard(key)
                self.close(key)

    def retire(self) -> None:
        """Close every model, those in use as soon as they are given back: the device has changed."""
        for key in list(self.models):
            if self.in_use.get(key):
                self.retired.add(key)
            else:
                self.close(key)
