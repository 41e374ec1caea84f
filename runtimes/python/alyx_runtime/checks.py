"""Checks of a call's input against the `input` that a function declares; the same rules as in Node.

Rules of a field: required, optional, type (string number integer boolean object array any), min_length,
max_length, min, max, pattern, enum, items, properties; camelCase names are read too. A bare string is a type. Rules
that are not listed are ignored and so are fields that are not declared.
"""

import json
import re

TYPES = ("string", "number", "integer", "boolean", "object", "array", "any")
MAX_PROBLEMS = 50


def compile_checks(declaration, where):
    """Compiles a declaration once; raises TypeError where it cannot be meant. The result lists an input's problems."""
    if declaration is None:
        return None
    if not isinstance(declaration, dict):
        raise TypeError(f"{where} must be a dict that maps field names to rules")
    check = _fields(declaration, where)

    def problems_of(value):
        if type_name(value) != "object":
            got = type_name(value)
            return [_problem("", "invalid_type", "Input must be an object", expected="object", got=got)]
        problems = []
        check(value, "", problems)
        return problems

    return problems_of


def _fields(declaration, where):
    checks = []
    for name, written in declaration.items():
        rule = _rule_of(written, f"{where}.{name}")
        required = rule.get("required") is True and rule.get("optional") is not True
        checks.append((name, required, _value(rule, f"{where}.{name}")))

    def check_all(value, path, problems):
        for name, required, check in checks:
            field = f"{path}.{name}" if path else name
            if len(problems) >= MAX_PROBLEMS:
                return
            given = value.get(name)
            if given is not None:
                check(given, field, problems)
            elif required:
                problems.append(_problem(field, "required", f"Field '{field}' is required"))

    return check_all


def _rule_of(written, where):
    rule = {"type": written} if isinstance(written, str) else written
    if not isinstance(rule, dict):
        raise TypeError(f"{where} must be a type name or a dict of rules")
    return rule


def _value(rule, where):
    kind = rule.get("type", "any")
    if kind not in TYPES:
        raise TypeError(f"{where}.type is {json.dumps(kind, default=str)}; it must be one of {', '.join(TYPES)}")
    parts = (_allowed(rule, where), _length(rule, where), _range(rule), _elements(rule, where), _members(rule, where))
    rest = [part for part in parts if part is not None]

    def check(given, field, problems):
        if not _is_of(kind, given):
            words = "must be an array" if kind == "array" else f"must be of type {kind}"
            message = f"Field '{field}' {words}"
            problems.append(_problem(field, "invalid_type", message, expected=kind, got=type_name(given)))
            return
        for part in rest:
            part(given, field, problems)

    return check


def _allowed(rule, where):
    allowed = rule.get("enum")
    if allowed is None:
        return None
    if not isinstance(allowed, (list, tuple)):
        raise TypeError(f"{where}.enum must be a list of allowed values")
    allowed = list(allowed)

    def check(given, field, problems):
        if not any(given == one and type_name(given) == type_name(one) for one in allowed):
            listed = ", ".join(str(one) for one in allowed)
            message = f"Field '{field}' must be one of: {listed}"
            problems.append(_problem(field, "not_allowed", message, allowed=allowed))

    return check


def _length(rule, where):
    least = rule.get("min_length", rule.get("minLength"))
    most = rule.get("max_length", rule.get("maxLength"))
    pattern = rule.get("pattern")
    if least is None and most is None and pattern is None:
        return None
    try:
        expression = re.compile(pattern) if pattern is not None else None
    except (re.error, TypeError) as error:
        raise TypeError(f"{where}.pattern is not a regular expression: {error}") from None

    def check(given, field, problems):
        if not isinstance(given, (str, list)):
            return
        unit = "characters" if isinstance(given, str) else "items"
        if least is not None and len(given) < least:
            message = f"Field '{field}' must be at least {least} {unit}"
            problems.append(_problem(field, "too_short", message, minLength=least))
        if most is not None and len(given) > most:
            message = f"Field '{field}' must be at most {most} {unit}"
            problems.append(_problem(field, "too_long", message, maxLength=most))
        if isinstance(given, str) and expression is not None and expression.search(given) is None:
            message = f"Field '{field}' must match {expression.pattern}"
            problems.append(_problem(field, "pattern", message, pattern=expression.pattern))

    return check


def _range(rule):
    least, most = rule.get("min"), rule.get("max")
    if least is None and most is None:
        return None

    def check(given, field, problems):
        if type_name(given) != "number":
            return
        if least is not None and given < least:
            problems.append(_problem(field, "too_small", f"Field '{field}' must be at least {least}", min=least))
        if most is not None and given > most:
            problems.append(_problem(field, "too_large", f"Field '{field}' must be at most {most}", max=most))

    return check


def _elements(rule, where):
    if rule.get("items") is None:
        return None
    check = _value(_rule_of(rule["items"], f"{where}.items"), f"{where}.items")

    def check_each(given, field, problems):
        if not isinstance(given, list):
            return
        for index, element in enumerate(given):
            if len(problems) >= MAX_PROBLEMS:
                return
            check(element, f"{field}[{index}]", problems)

    return check_each


def _members(rule, where):
    if rule.get("properties") is None:
        return None
    check = _fields(_rule_of(rule["properties"], f"{where}.properties"), f"{where}.properties")

    def check_members(given, field, problems):
        if isinstance(given, dict):
            check(given, field, problems)

    return check_members


def _is_of(kind, given):
    if kind == "any":
        return True
    if kind == "integer":
        whole = isinstance(given, int) or isinstance(given, float) and given.is_integer()
        return whole and not isinstance(given, bool)
    return type_name(given) == kind


def type_name(given):
    """The JSON type of a value."""
    if given is None:
        return "null"
    if isinstance(given, bool):
        return "boolean"
    for kind, name in ((str, "string"), ((int, float), "number"), (list, "array"), (dict, "object")):
        if isinstance(given, kind):
            return name
    return type(given).__name__


def _problem(field, code, message, **more):
    return {"field": field, "code": code, "message": message, **more}
