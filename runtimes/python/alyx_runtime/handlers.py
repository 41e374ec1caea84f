"""Finds the handler in a function's module, whichever way it was written, and calls it.

Read are: `def handler(ctx)`, `def handler(req, res)`, either `async`, with `SCHEMA = {"input": …}` or
`config = {"input": …}` beside it, and `default = define_function(handler, …)`, whose handler takes `(input, ctx)`.
"""

import importlib.util
import os
import sys

from .checks import compile_checks

CO_VARARGS = 0x04
CO_COROUTINE = 0x80


class Declaration:
    """What `define_function` returns."""

    def __init__(self, handler, input=None, output=None):
        self.handler = handler
        self.input = input
        self.output = output

    def __call__(self, *args, **named):
        return self.handler(*args, **named)


def define_function(handler=None, input_schema=None, output_schema=None, *, input=None, output=None):
    """Declares a function whose handler takes `(input, ctx)`; also a decorator: `@define_function(input={…})`."""
    schema = input if input is not None else input_schema
    result = output if output is not None else output_schema
    if handler is None:
        return lambda written: Declaration(written, schema, result)
    return Declaration(handler, schema, result)


class Handler:
    """The handler as the runtime calls it."""

    def __init__(self, call, takes_input, check):
        self._call = call
        self._takes_input = takes_input
        self._check = check
        code = _code_of(call)
        self.is_coroutine = code is not None and bool(code.co_flags & CO_COROUTINE)
        self._takes_two = takes_input or _takes_two(call)

    def problems(self, value):
        """What is wrong with the input; empty where nothing is."""
        return [] if self._check is None else self._check(value)

    def run(self, invocation):
        """Calls the handler; returns and raises as it does."""
        context = invocation.context
        if not self._takes_two:
            return self._call(context)
        return self._call(invocation.input if self._takes_input else context, context)


def load(root, entrypoint):
    """Imports the entry point and finds its handler. Raises what the code raises, and TypeError without a handler."""
    file = os.path.join(root, entrypoint)
    # Last, so that a function called `email.py` does not stand in for a module of Python's own.
    sys.path.extend(dict.fromkeys((os.path.dirname(file), root)))
    # For the same reason under a name that no module has.
    name = "function_" + os.path.splitext(os.path.basename(entrypoint))[0]
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return _handler_of(module)


def _handler_of(module):
    found = getattr(module, "default", None)
    if found is None:
        found = getattr(module, "handler", None)
    if isinstance(found, Declaration):
        return Handler(found.handler, True, compile_checks(found.input, "input"))
    if not callable(found):
        raise TypeError("it has no handler: write `def handler(ctx): …` or `default = define_function(handler)`")
    declared = getattr(module, "SCHEMA", None)
    where = "SCHEMA" if declared is not None else "config"
    declared = declared if declared is not None else getattr(module, "config", None)
    checks = declared.get("input") if isinstance(declared, dict) else None
    return Handler(found, False, compile_checks(checks, f"{where}.input"))


def _unwrapped(call):
    while hasattr(call, "__wrapped__"):
        call = call.__wrapped__
    return call


def _code_of(call):
    call = _unwrapped(call)
    code = getattr(call, "__code__", None)
    if code is None and hasattr(call, "__call__"):
        code = getattr(call.__call__, "__code__", None)
    return code


def _takes_two(call):
    call = _unwrapped(call)
    code = _code_of(call)
    if code is None:
        return False
    bound = hasattr(call, "__self__") or not hasattr(call, "__code__")
    return code.co_argcount - bound >= 2 or bool(code.co_flags & CO_VARARGS)
