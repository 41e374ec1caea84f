// Checks of a call's input against the `input` that a function declares.
//
// Rules of a field: required, optional, type (string number integer boolean object array any), minLength,
// maxLength, min, max, pattern, enum, items, properties. A bare string is a type. Rules that are not listed are
// ignored and so are fields that are not declared. Rule names may be written in snake case.

const TYPES = ["string", "number", "integer", "boolean", "object", "array", "any"];
const MAX_PROBLEMS = 50;

/** Compiles a declaration once; throws where it cannot be meant. The result maps an input to its problems. */
export function compile(declaration, where = "input") {
  if (declaration === undefined || declaration === null) {
    return undefined;
  }
  if (typeof declaration !== "object" || Array.isArray(declaration)) {
    throw new TypeError(`${where} must be an object that maps field names to rules`);
  }
  const check = fields(declaration, where);
  return (input) => {
    if (typeName(input) !== "object") {
      return [problem("", "invalid_type", "Input must be an object", { expected: "object", got: typeName(input) })];
    }
    const problems = [];
    check(input, "", problems);
    return problems;
  };
}

function fields(declaration, where) {
  const checks = Object.entries(declaration).map(([name, written]) => {
    const rule = ruleOf(written, `${where}.${name}`);
    const required = rule.required === true && rule.optional !== true;
    return { name, required, check: value(rule, `${where}.${name}`) };
  });
  return (input, path, problems) => {
    for (const { name, required, check } of checks) {
      const field = path === "" ? name : `${path}.${name}`;
      const given = Object.hasOwn(input, name) ? input[name] : undefined;
      if (problems.length >= MAX_PROBLEMS) {
        return;
      }
      if (given !== undefined && given !== null) {
        check(given, field, problems);
      } else if (required) {
        problems.push(problem(field, "required", `Field '${field}' is required`));
      }
    }
  };
}

function ruleOf(written, where) {
  const rule = typeof written === "string" ? { type: written } : written;
  if (typeName(rule) !== "object") {
    throw new TypeError(`${where} must be a type name or an object of rules`);
  }
  return rule;
}

function value(rule, where) {
  const type = rule.type ?? "any";
  if (!TYPES.includes(type)) {
    throw new TypeError(`${where}.type is ${JSON.stringify(type)}; it must be one of ${TYPES.join(", ")}`);
  }
  const rest = [allowed(rule, where), text(rule, where), range(rule), elements(rule, where), members(rule, where)].filter(
    Boolean,
  );
  return (given, field, problems) => {
    if (!isOf(type, given)) {
      const message = type === "array" ? `Field '${field}' must be an array` : `Field '${field}' must be of type ${type}`;
      problems.push(problem(field, "invalid_type", message, { expected: type, got: typeName(given) }));
      return;
    }
    for (const check of rest) {
      check(given, field, problems);
    }
  };
}

function allowed(rule, where) {
  if (rule.enum === undefined) {
    return undefined;
  }
  if (!Array.isArray(rule.enum)) {
    throw new TypeError(`${where}.enum must be an array of allowed values`);
  }
  return (given, field, problems) => {
    if (!rule.enum.includes(given)) {
      const list = rule.enum.join(", ");
      problems.push(problem(field, "not_allowed", `Field '${field}' must be one of: ${list}`, { allowed: rule.enum }));
    }
  };
}

function text(rule, where) {
  const minLength = rule.minLength ?? rule.min_length;
  const maxLength = rule.maxLength ?? rule.max_length;
  const pattern = rule.pattern === undefined ? undefined : expression(rule.pattern, where);
  if (minLength === undefined && maxLength === undefined && pattern === undefined) {
    return undefined;
  }
  return (given, field, problems) => {
    const isText = typeof given === "string";
    if (!isText && !Array.isArray(given)) {
      return;
    }
    const unit = isText ? "characters" : "items";
    if (minLength !== undefined && given.length < minLength) {
      problems.push(problem(field, "too_short", `Field '${field}' must be at least ${minLength} ${unit}`, { minLength }));
    }
    if (maxLength !== undefined && given.length > maxLength) {
      problems.push(problem(field, "too_long", `Field '${field}' must be at most ${maxLength} ${unit}`, { maxLength }));
    }
    if (isText && pattern !== undefined && !pattern.test(given)) {
      const written = pattern.source;
      problems.push(problem(field, "pattern", `Field '${field}' must match ${written}`, { pattern: written }));
    }
  };
}

function expression(pattern, where) {
  try {
    // Without its flags g and y, which would carry a position from one call to the next.
    return pattern instanceof RegExp
      ? new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ""))
      : new RegExp(pattern);
  } catch (error) {
    throw new TypeError(`${where}.pattern is not a regular expression: ${error.message}`);
  }
}

function range(rule) {
  const { min, max } = rule;
  if (min === undefined && max === undefined) {
    return undefined;
  }
  return (given, field, problems) => {
    if (typeof given !== "number") {
      return;
    }
    if (min !== undefined && given < min) {
      problems.push(problem(field, "too_small", `Field '${field}' must be at least ${min}`, { min }));
    }
    if (max !== undefined && given > max) {
      problems.push(problem(field, "too_large", `Field '${field}' must be at most ${max}`, { max }));
    }
  };
}

function elements(rule, where) {
  if (rule.items === undefined) {
    return undefined;
  }
  const check = value(ruleOf(rule.items, `${where}.items`), `${where}.items`);
  return (given, field, problems) => {
    for (let i = 0; Array.isArray(given) && i < given.length && problems.length < MAX_PROBLEMS; i += 1) {
      check(given[i], `${field}[${i}]`, problems);
    }
  };
}

function members(rule, where) {
  if (rule.properties === undefined) {
    return undefined;
  }
  const check = fields(ruleOf(rule.properties, `${where}.properties`), `${where}.properties`);
  return (given, field, problems) => {
    if (typeName(given) === "object") {
      check(given, field, problems);
    }
  };
}

function isOf(type, given) {
  if (type === "any") {
    return true;
  }
  return type === "integer" ? Number.isInteger(given) : typeName(given) === type;
}

function typeName(given) {
  if (given === null) {
    return "null";
  }
  return Array.isArray(given) ? "array" : typeof given;
}

function problem(field, code, message, more) {
  return { field, code, message, ...more };
}
