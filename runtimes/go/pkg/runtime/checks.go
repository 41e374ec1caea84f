package runtime

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"
)

const maxProblems = 50

// Schema declares a function's input and output. The input is checked before the handler runs; the output is
// documentation.
type Schema struct {
	Input  Fields
	Output Fields
}

// Fields are rules by the name of the field.
type Fields map[string]Field

// Field holds the rules of one field. What is not set is not checked.
type Field struct {
	// Type is one of string, number, integer, boolean, object, array, any.
	Type     string
	Required bool
	// MinLength and MaxLength are of text in characters and of arrays in items; 0 is none.
	MinLength, MaxLength int
	// Min and Max are of numbers; see Bound.
	Min, Max *float64
	// Pattern is a regular expression that text must match somewhere.
	Pattern string
	// Enum lists the allowed values.
	Enum []any
	// Items are the rules of an array's items.
	Items *Field
	// Properties are the rules of an object's fields.
	Properties Fields
}

// Bound is a number for Field.Min and Field.Max.
func Bound(number float64) *float64 {
	return &number
}

type problem struct {
	Field   string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
	more    map[string]any
}

func (p problem) MarshalJSON() ([]byte, error) {
	told := map[string]any{"field": p.Field, "code": p.Code, "message": p.Message}
	for name, value := range p.more {
		told[name] = value
	}
	return json.Marshal(told)
}

type problems []problem

func (p *problems) add(field, code, message string, more map[string]any) {
	if len(*p) < maxProblems {
		*p = append(*p, problem{field, code, message, more})
	}
}

// check lists what is wrong with an input.
type check func(value any, found *problems)

func (c check) refuse(body []byte) error {
	var value any = map[string]any{}
	if len(body) > 0 && string(body) != "null" {
		if err := json.Unmarshal(body, &value); err != nil {
			return NewError("INVALID_JSON", "the input is not JSON: "+err.Error()).WithStatus(400)
		}
	}
	var found problems
	c(value, &found)
	if len(found) == 0 {
		return nil
	}
	refused := NewError("VALIDATION_ERROR", found[0].Message).WithStatus(400)
	return refused.With("field", found[0].Field).With("details", found)
}

func compile(declared Fields) (check, error) {
	if declared == nil {
		return nil, nil
	}
	inner, err := compileFields(declared, "Schema.Input")
	if err != nil {
		return nil, err
	}
	return func(value any, found *problems) {
		object, is := value.(map[string]any)
		if !is {
			got := typeName(value)
			found.add("", "invalid_type", "Input must be an object", map[string]any{"expected": "object", "got": got})
			return
		}
		inner(object, "", found)
	}, nil
}

type fieldsCheck func(object map[string]any, path string, found *problems)

type valueCheck func(value any, field string, found *problems)

func compileFields(declared Fields, where string) (fieldsCheck, error) {
	names := make([]string, 0, len(declared))
	checks := make(map[string]valueCheck, len(declared))
	for name, rule := range declared {
		one, err := compileValue(rule, where+"."+name)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		checks[name] = one
	}
	sort.Strings(names)
	return func(object map[string]any, path string, found *problems) {
		for _, name := range names {
			field := name
			if path != "" {
				field = path + "." + name
			}
			given := object[name]
			if given != nil {
				checks[name](given, field, found)
			} else if declared[name].Required {
				found.add(field, "required", fmt.Sprintf("Field '%s' is required", field), nil)
			}
		}
	}, nil
}

func compileValue(rule Field, where string) (valueCheck, error) {
	kind := rule.Type
	switch kind {
	case "":
		kind = "any"
	case "string", "number", "integer", "boolean", "object", "array", "any":
	default:
		return nil, fmt.Errorf("%s.Type is %q; it must be one of string, number, integer, boolean, object, array, any", where, kind)
	}
	var pattern *regexp.Regexp
	if rule.Pattern != "" {
		compiled, err := regexp.Compile(rule.Pattern)
		if err != nil {
			return nil, fmt.Errorf("%s.Pattern is not a regular expression: %w", where, err)
		}
		pattern = compiled
	}
	var items valueCheck
	if rule.Items != nil {
		compiled, err := compileValue(*rule.Items, where+".Items")
		if err != nil {
			return nil, err
		}
		items = compiled
	}
	var properties fieldsCheck
	if rule.Properties != nil {
		compiled, err := compileFields(rule.Properties, where+".Properties")
		if err != nil {
			return nil, err
		}
		properties = compiled
	}
	return func(value any, field string, found *problems) {
		if !isOf(kind, value) {
			words := "must be of type " + kind
			if kind == "array" {
				words = "must be an array"
			}
			found.add(field, "invalid_type", fmt.Sprintf("Field '%s' %s", field, words),
				map[string]any{"expected": kind, "got": typeName(value)})
			return
		}
		rule.allowed(value, field, found)
		rule.length(value, field, pattern, found)
		rule.within(value, field, found)
		if array, is := value.([]any); is && items != nil {
			for at, item := range array {
				items(item, fmt.Sprintf("%s[%d]", field, at), found)
			}
		}
		if object, is := value.(map[string]any); is && properties != nil {
			properties(object, field, found)
		}
	}, nil
}

func (f Field) allowed(value any, field string, found *problems) {
	if f.Enum == nil {
		return
	}
	words := make([]string, len(f.Enum))
	for at, one := range f.Enum {
		if reflect.DeepEqual(plain(one), value) {
			return
		}
		words[at] = fmt.Sprint(one)
	}
	message := fmt.Sprintf("Field '%s' must be one of: %s", field, strings.Join(words, ", "))
	found.add(field, "not_allowed", message, map[string]any{"allowed": f.Enum})
}

// plain is a declared value as JSON has it.
func plain(value any) any {
	number := reflect.ValueOf(value)
	switch {
	case number.CanInt():
		return float64(number.Int())
	case number.CanUint():
		return float64(number.Uint())
	case number.CanFloat():
		return number.Float()
	}
	return value
}

func (f Field) length(value any, field string, pattern *regexp.Regexp, found *problems) {
	length, unit := 0, "characters"
	text, isText := value.(string)
	if isText {
		length = utf8.RuneCountInString(text)
	} else if array, isArray := value.([]any); isArray {
		length, unit = len(array), "items"
	} else {
		return
	}
	if length < f.MinLength {
		message := fmt.Sprintf("Field '%s' must be at least %d %s", field, f.MinLength, unit)
		found.add(field, "too_short", message, map[string]any{"minLength": f.MinLength})
	}
	if f.MaxLength > 0 && length > f.MaxLength {
		message := fmt.Sprintf("Field '%s' must be at most %d %s", field, f.MaxLength, unit)
		found.add(field, "too_long", message, map[string]any{"maxLength": f.MaxLength})
	}
	if isText && pattern != nil && !pattern.MatchString(text) {
		message := fmt.Sprintf("Field '%s' must match %s", field, f.Pattern)
		found.add(field, "pattern", message, map[string]any{"pattern": f.Pattern})
	}
}

func (f Field) within(value any, field string, found *problems) {
	number, is := value.(float64)
	if !is {
		return
	}
	if f.Min != nil && number < *f.Min {
		message := fmt.Sprintf("Field '%s' must be at least %v", field, *f.Min)
		found.add(field, "too_small", message, map[string]any{"min": *f.Min})
	}
	if f.Max != nil && number > *f.Max {
		message := fmt.Sprintf("Field '%s' must be at most %v", field, *f.Max)
		found.add(field, "too_large", message, map[string]any{"max": *f.Max})
	}
}

func isOf(kind string, value any) bool {
	switch kind {
	case "any":
		return true
	case "integer":
		number, is := value.(float64)
		return is && number == math.Trunc(number)
	}
	return typeName(value) == kind
}

func typeName(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

// jsonName is what a Go type is called in JSON.
func jsonName(of reflect.Type) string {
	switch of.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Map, reflect.Struct:
		return "object"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Float32, reflect.Float64:
		return "number"
	}
	return of.String()
}
