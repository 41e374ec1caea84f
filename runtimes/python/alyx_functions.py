"""What functions import: `from alyx_functions import define_function, FunctionError, get_context`."""

from alyx_runtime.current import CancelledError, current_invocation
from alyx_runtime.errors import DataError, FunctionError
from alyx_runtime.handlers import define_function

__all__ = ["CancelledError", "DataError", "FunctionError", "define_function", "get_context"]


def get_context():
    """The context of the call that runs now, for code that is not handed it.

    Raises RuntimeError outside of a call.
    """
    invocation = current_invocation()
    if invocation is None:
        raise RuntimeError("get_context() only works while a function is being called")
    return invocation.context
