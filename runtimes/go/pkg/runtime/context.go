package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
)

// Context is one call. It is a context.Context that is done at the deadline of the call, or when its caller has left:
// hand it to what takes one.
type Context struct {
	context.Context
	// Input of the call, where it is an object; empty otherwise. See Bind for a struct.
	Input map[string]any
	// Auth is who calls; nil where nobody has signed in.
	Auth *Auth
	// DB is the database, with the function's own authority: access rules do not apply.
	DB *DB
	// Log writes lines of this call.
	Log *Logger
	// Env holds the function's settings, which are also its whole environment.
	Env map[string]string
	// RequestID is the id of the request that made the call.
	RequestID string
	// FunctionName is the name that the function is served by.
	FunctionName string
	// TraceParent is the call's place in a trace, as the W3C header `traceparent` has it; empty where it has none.
	TraceParent string

	call *call
}

// Auth is an account that has signed in.
type Auth struct {
	ID       string         `json:"id"`
	Email    string         `json:"email"`
	Verified bool           `json:"verified"`
	Role     string         `json:"role"`
	Metadata map[string]any `json:"metadata"`
}

// Body is the input as it came: JSON.
func (c *Context) Body() []byte {
	return c.call.body
}

// Bind reads the input into what `into` points to. What does not fit is an answer with status 400.
func (c *Context) Bind(into any) error {
	return bind(c.call.body, into)
}

// Text is the field of that name, where the input has one that is text; empty otherwise.
func (c *Context) Text(name string) string {
	text, _ := c.Input[name].(string)
	return text
}

// Number is the field of that name, where the input has one that is a number; 0 otherwise.
func (c *Context) Number(name string) float64 {
	number, _ := c.Input[name].(float64)
	return number
}

func bind(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 || string(body) == "null" {
		body = []byte("{}")
	}
	err := json.Unmarshal(body, into)
	if err == nil {
		return nil
	}
	refused := NewError("VALIDATION_ERROR", "the input does not fit: "+err.Error()).WithStatus(400)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		refused.Message = fmt.Sprintf("Field '%s' must be of type %s", wrong.Field, jsonName(wrong.Type))
		refused.With("field", wrong.Field)
	}
	return refused
}

// call is one invocation from its arrival to its end.
type call struct {
	worker *worker
	stream uint64
	body   []byte
	logged logBudget
	ended  atomic.Bool
	// cancel ends the context that user code sees; overdue is closed at the deadline alone: a call whose caller has
	// left may still finish what it writes.
	cancel  context.CancelCauseFunc
	overdue chan struct{}
}

var (
	errDeadline  = errors.New("the call has reached its deadline")
	errAbandoned = errors.New("the caller has left")
)

type callMeta struct {
	RequestID   string `json:"request_id"`
	TraceParent string `json:"traceparent"`
	Auth        *Auth  `json:"auth"`
}

// contextKey finds the call in a context.Context that was made from its own.
type contextKey struct{}

func (w *worker) contextOf(inner context.Context, one *call, meta []byte) (*Context, error) {
	made := &Context{
		Input:        map[string]any{},
		Log:          &Logger{one},
		Env:          w.loaded.Env,
		FunctionName: w.loaded.Name,
		call:         one,
	}
	made.Context = context.WithValue(inner, contextKey{}, made)
	made.DB = &DB{call: one}
	var told callMeta
	if err := json.Unmarshal(meta, &told); err != nil {
		return made, err
	}
	made.RequestID, made.TraceParent, made.Auth = told.RequestID, told.TraceParent, told.Auth
	if len(one.body) == 0 {
		return made, nil
	}
	if !json.Valid(one.body) {
		return made, NewError("INVALID_JSON", "the input is not JSON").WithStatus(400)
	}
	// Anything but an object is left to Body and Bind.
	var fields map[string]any
	if json.Unmarshal(one.body, &fields) == nil && fields != nil {
		made.Input = fields
	}
	return made, nil
}

// From is the call that a context.Context, or the context of an *http.Request, belongs to; nil where it belongs to none.
func From(inner context.Context) *Context {
	found, _ := inner.Value(contextKey{}).(*Context)
	return found
}
