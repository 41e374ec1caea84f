"""Errors that handlers raise or get, and what a raised error tells the caller."""

import json
import sys
import traceback

MAX_MESSAGE = 8192
MAX_CODE = 128


class FunctionError(Exception):
    """An answer meant for the caller: HTTP 400 with this code, unless `status` (400 to 599) says otherwise.

    Further keywords become members of the error beside `code` and `message`.
    """

    def __init__(self, code, message="", details=None, status=None, **extra):
        super().__init__(message or code)
        self.code = code
        self.status = status
        self.extra = dict(extra)
        if details is not None:
            self.extra["details"] = details


class DataError(Exception):
    """What `ctx.db` raises: `code`, `status`, and where there are any `field`, `details`, `retry_after` (seconds)."""

    def __init__(self, told):
        super().__init__(told.get("message", "the database refused the call"))
        self.code = told.get("code")
        self.status = told.get("status")
        self.field = told.get("field")
        self.details = told.get("details")
        self.retry_after = told.get("retryAfter")
        self.extra = {key: told[key] for key in ("field", "details", "retryAfter") if told.get(key) is not None}

    @classmethod
    def ended(cls):
        """The call that it was for has ended."""
        message = "ctx.db was used after its call had ended; wait for every ctx.db call before returning"
        return cls({"message": message, "code": "INVOCATION_ENDED", "status": 409})


def describe(raised):
    """What a raised error says, in the form that the worker reads."""
    code = getattr(raised, "code", None)
    status = getattr(raised, "status", None)
    extra = getattr(raised, "extra", None)
    message = str(raised) or type(raised).__name__
    told = {"message": message[:MAX_MESSAGE], "extra": portable_members(extra)}
    if isinstance(code, str) and code:
        told["code"] = code[:MAX_CODE]
    if isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599:
        told["status"] = status
    return told


def portable_members(extra):
    """`extra` where it can travel as JSON; nothing of it otherwise."""
    if not isinstance(extra, dict) or not extra:
        return {}
    try:
        return json.loads(json.dumps(extra, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return {}


def stack_of(raised):
    """The traceback as Python prints it, from the function's own first frame on."""
    trace = raised.__traceback__
    runtime = sys.modules["alyx_runtime"].__path__[0]
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((runtime, "<frozen importlib")):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(raised), raised, trace))


def place_of(raised, root):
    """Where code does not load: `SyntaxError: … (name.py, line 3)` in one line, paths relative to `root`."""
    if isinstance(raised, SyntaxError):
        file = (raised.filename or "").removeprefix(root).lstrip("/")
        return f"{type(raised).__name__}: {raised.msg} ({file}, line {raised.lineno})"
    frames = [frame for frame in traceback.extract_tb(raised.__traceback__) if frame.filename.startswith(root)]
    place = f" ({frames[-1].filename.removeprefix(root).lstrip('/')}, line {frames[-1].lineno})" if frames else ""
    return f"{type(raised).__name__}: {raised}{place}"
