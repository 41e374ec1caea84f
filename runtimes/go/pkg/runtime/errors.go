package runtime

import (
	"encoding/json"
	"errors"
	"runtime/debug"
	"strings"
)

const (
	maxCode    = 128
	maxMessage = 8192
)

// Error is an answer meant for the caller: its code, and its status where it has one between 400 and 599. ctx.DB
// returns it too.
type Error struct {
	Code    string
	Message string
	// Status of the reply; 400 where it is 0.
	Status int
	// Members are told beside code and message: "field", "details", "retryAfter" (whole seconds), or your own.
	Members map[string]any
}

// NewError makes an error with that code, which the caller gets with status 400.
func NewError(code, message string) *Error {
	return &Error{Code: code, Message: message}
}

// WithStatus sets the status of the reply, between 400 and 599.
func (e *Error) WithStatus(status int) *Error {
	e.Status = status
	return e
}

// With adds a member to what the caller is told.
func (e *Error) With(name string, value any) *Error {
	if e.Members == nil {
		e.Members = map[string]any{}
	}
	e.Members[name] = value
	return e
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Message
}

type toldError struct {
	Code    string         `json:"code,omitempty"`
	Status  int            `json:"status,omitempty"`
	Message string         `json:"message"`
	Extra   map[string]any `json:"extra,omitempty"`
}

// describe says what an error is to the worker; `coded` where it is an answer and no defect.
func describe(err error) (told toldError, coded bool) {
	told.Message = cut(err.Error(), maxMessage)
	var known *Error
	if !errors.As(err, &known) || known.Code == "" {
		return told, false
	}
	told.Code = cut(known.Code, maxCode)
	if known.Status >= 400 && known.Status <= 599 {
		told.Status = known.Status
	}
	told.Extra = known.Members
	return told, true
}

func (t toldError) encoded(most int) []byte {
	meta, err := json.Marshal(t)
	if err != nil || len(meta) > most {
		t.Extra = nil
		// Text and numbers always have a form.
		meta, _ = json.Marshal(t)
	}
	return meta
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// stackOfPanic is the stack from the function's own first frame on.
func stackOfPanic() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	for at := len(lines) - 1; at > 0; at-- {
		if strings.HasPrefix(lines[at], "panic(") && at+2 < len(lines) {
			return strings.Join(lines[at+2:], "\n")
		}
	}
	return strings.Join(lines, "\n")
}
