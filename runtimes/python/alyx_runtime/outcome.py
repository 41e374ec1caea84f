"""How a call ends: from what a handler returned or raised to the frame that tells it."""

import json

from . import logs
from .errors import describe, stack_of
from .frames import ERROR, RESULT
from .values import to_json


def succeeded(invocation, returned):
    """The last frame's (type, meta, body) for a handler that returned."""
    value = invocation.reply if invocation.replied else returned
    if invocation.status >= 400:
        return _error(invocation, _refusal(invocation.status, value))
    try:
        body = to_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        return failed(invocation, TypeError(f"the return value cannot be written as JSON: {error}"))
    most = invocation.function.max_output
    if len(body) > most:
        words = f"the return value is larger than {most} bytes; return less, or a page of it"
        return failed(invocation, ValueError(words))
    return RESULT, b"", body


def failed(invocation, raised):
    """The last frame for a handler that raised. What has no code of its own is a defect, and logged."""
    told = describe(raised)
    if "code" not in told:
        words = f"{type(raised).__name__}: {told['message']}"
        logs.record(invocation, "error", words, {"stack": stack_of(raised)})
    return _error(invocation, told)


def invalid_input(invocation, problems):
    """The last frame for an input that the declared checks refuse."""
    first = problems[0]
    extra = {"field": first["field"], "details": problems}
    told = {"code": "VALIDATION_ERROR", "status": 400, "message": first["message"], "extra": extra}
    return _error(invocation, told)


def not_json(error):
    """The last frame for an input that is no JSON."""
    told = {"code": "INVALID_JSON", "status": 400, "message": f"the input is not JSON: {error}"}
    return ERROR, json.dumps(told).encode(), b""


def _error(invocation, told):
    meta = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
    if len(meta) > invocation.function.max_output:
        meta = json.dumps({**told, "extra": {}}).encode()
    return ERROR, meta, b""


def _refusal(status, body):
    """`res.json({"error": "…"}, 404)`: an error with that status, its members kept."""
    told = body if isinstance(body, dict) else {"message": str(body) if body is not None else f"status {status}"}
    inner = told["error"] if isinstance(told.get("error"), dict) else told
    extra = {key: value for key, value in inner.items() if key not in ("code", "message", "error")}
    words = next(
        (text for text in (inner.get("message"), inner.get("error"), told.get("message")) if isinstance(text, str)),
        f"the function answered with status {status}",
    )
    code = inner.get("code") if isinstance(inner.get("code"), str) else "FUNCTION_ERROR"
    try:
        extra = json.loads(to_json(extra))
    except (TypeError, ValueError):
        extra = {}
    return {"code": code, "status": status if status <= 599 else 500, "message": words, "extra": extra}
