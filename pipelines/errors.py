"""Every error that may be shown to a person, and nothing else.

::

    StudioError                  safe to show: what happened, then what to try
    ├── InvalidParams            a setting or an input is out of range
    ├── Busy                     the queue is full, or this session already waits
    ├── TimedOut                 the time limit of a job was reached
    ├── Forbidden                only the presenter may do this
    ├── DeviceUnavailable        an explicit device or precision request cannot be met
    ├── OutOfMemory              the device ran out of memory; the next job starts clean
    ├── MissingKey               a model server wants a key, or another one
    ├── RemoteFailed             a model server did not answer as it should
    └── ModelUnavailable         the model cannot be loaded
        ├── ModelMissing         not on this machine, and not downloadable now
        ├── ModelGated           a licence must be accepted or a token set first
        ├── ModelCorrupt         a file does not match its hash or cannot be read
        └── ModelTooLarge        does not fit this device or this disk

``Cancelled`` is not in the tree: it is a quiet outcome, not an error. Library exceptions are translated
once, at the pipeline's edge; whatever is not a ``StudioError`` is a bug and is shown as "unexpected, id ...".
"""

from __future__ import annotations


class StudioError(Exception):
    """Safe to show. ``message`` says what happened, ``hint`` what to try."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


class InvalidParams(StudioError):
    """A setting or an input is out of range; the message names field, value and range."""


class Busy(StudioError):
    """The queue is full, or this session already has its share of it."""


class TimedOut(StudioError):
    """The time limit of a job was reached; what was made until then is kept by the page."""


class Forbidden(StudioError):
    """Only the presenter may do this."""


class DeviceUnavailable(StudioError):
    """An explicit device or precision request cannot be met; the hint says what can."""


class OutOfMemory(StudioError):
    """The device ran out of memory. The engine frees what it can before the next job."""


class MissingKey(StudioError):
    """A model server wants an access key, or refused the one it got."""


class RemoteFailed(StudioError):
    """A model server was down, slow, refused the key or broke off."""


class ModelUnavailable(StudioError):
    """The model cannot be loaded; the children say why."""


class ModelMissing(ModelUnavailable):
    """Not on this machine, and not downloadable now."""


class ModelGated(ModelUnavailable):
    """A licence must be accepted on a web page, or an access token set, first."""


class ModelCorrupt(ModelUnavailable):
    """A file does not match its recorded hash or cannot be read."""


class ModelTooLarge(ModelUnavailable):
    """The model does not fit this device or this disk."""


class Cancelled(Exception):
    """Somebody asked for the work to stop. Raised inside a pipeline, never shown as an error."""
