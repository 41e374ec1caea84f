"""What user code logs, as LOG frames of the invocation that logged it.

Bounded here, so that a chatty handler costs itself and not the socket; the worker checks the bounds again.
"""

import io
import json
import sys
from datetime import datetime, timezone

from .current import current_invocation
from .frames import LOG

MAX_LINE = 64 * 1024
MAX_BYTES = 1024 * 1024
MAX_ENTRIES = 1000

_send = None


class LogBudget:
    """Counts what one invocation has logged."""

    def __init__(self):
        self.entries = 0
        self.bytes = 0
        self.spent = False


def record(invocation, level, message, data=None):
    """Sends one line. `invocation` is None where no invocation logged it."""
    belongs = invocation is not None and not invocation.ended
    if belongs and invocation.log_budget.spent:
        return
    if len(message) > MAX_LINE:
        message = message[: MAX_LINE - 16] + "… [truncated]"
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = {"level": level, "message": message, "timestamp": now}
    if data is not None:
        entry["data"] = data
    body = _line(entry)
    if belongs:
        budget = invocation.log_budget
        budget.entries += 1
        budget.bytes += len(body)
        if budget.entries > MAX_ENTRIES or budget.bytes > MAX_BYTES:
            budget.spent = True
            words = f"log truncated: one call may log {MAX_ENTRIES} lines and {MAX_BYTES} bytes"
            body = _line({"level": "warn", "message": words, "timestamp": now})
    _send(LOG, invocation.id if belongs else 0, b"", body)


def _line(entry):
    try:
        text = json.dumps(entry, default=repr, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps({**entry, "data": repr(entry.get("data"))[:4096]}, ensure_ascii=False)
    if len(text) > 2 * MAX_LINE:
        text = json.dumps({**entry, "data": "data left out: too large"}, ensure_ascii=False)
    return text.encode("utf-8", "replace")


class Logger:
    """`ctx.log`: debug, info, warn, error, each `(message, data=None)` or with keywords as data."""

    def __init__(self, invocation):
        self._invocation = invocation

    def _at(self, level, message, data, more):
        if more:
            data = {**data, **more} if isinstance(data, dict) else more
        record(self._invocation, level, message if isinstance(message, str) else repr(message), data)

    def debug(self, message, data=None, **more):
        self._at("debug", message, data, more)

    def info(self, message, data=None, **more):
        self._at("info", message, data, more)

    def warn(self, message, data=None, **more):
        self._at("warn", message, data, more)

    warning = warn

    def error(self, message, data=None, **more):
        self._at("error", message, data, more)


class _Stream(io.TextIOBase):
    """Standard output or error: each whole line is one entry."""

    def __init__(self, level):
        self._level = level
        self._rest = ""

    def writable(self):
        return True

    def write(self, text):
        *lines, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = ""
        for line in lines:
            if line:
                record(current_invocation(), self._level, line)
        return len(text)

    def flush(self):
        if self._rest:
            rest, self._rest = self._rest, ""
            record(current_invocation(), self._level, rest)


def capture(send):
    """Points print, sys.stdout, sys.stderr and the logging module here."""
    global _send
    _send = send
    sys.stdout = _Stream("info")
    sys.stderr = _Stream("error")


def flush():
    """Sends what was printed without a line's end."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Stream):
            stream.flush()
