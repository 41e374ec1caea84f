"""Which invocation runs now.

Plain handlers run one at a time, so that any thread's lines belong to that one; coroutines run many at a time, each
in a context of its own.
"""

import contextvars

_of_task = contextvars.ContextVar("alyx_invocation", default=None)
_alone = None


class CancelledError(BaseException):
    """Raised inside a plain handler whose call has reached its deadline. Coroutines get asyncio.CancelledError.

    Not an Exception, so that `except Exception` does not swallow it.
    """


def current_invocation():
    """The invocation that runs now, or None."""
    return _alone if _alone is not None else _of_task.get()


def run_alone(invocation):
    """Names the one that runs; None when it has ended."""
    global _alone
    _alone = invocation


def enter_task(invocation):
    """Names the one that the running task and the tasks it makes belong to."""
    _of_task.set(invocation)
