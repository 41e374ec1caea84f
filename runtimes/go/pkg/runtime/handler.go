package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
)

// handler is the function's code as this package calls it.
type handler struct {
	// run gives the value of the reply.
	run func(ctx *Context) (any, error)
	// serve, where it is set, answers as a web server does, and run is not used.
	serve http.HandlerFunc
	check check
}

var (
	contextType  = reflect.TypeOf((*Context)(nil))
	standardType = reflect.TypeOf((*context.Context)(nil)).Elem()
	errorType    = reflect.TypeOf((*error)(nil)).Elem()
)

// handlerOf reads the ways to write a handler:
//
//	func Handler(ctx *runtime.Context) (any, error)
//	func Handler(ctx *runtime.Context, input Input) (Output, error)
//	func Handle(w http.ResponseWriter, r *http.Request)
//
// The context may be a context.Context; the result, the error, or both may be left out.
func handlerOf(declared Declared) (*handler, error) {
	made := &handler{}
	if declared.Schema != nil {
		check, err := compile(declared.Schema.Input)
		if err != nil {
			return nil, err
		}
		made.check = check
	}
	switch written := declared.Handler.(type) {
	case func(*Context) (any, error):
		made.run = written
	case func(http.ResponseWriter, *http.Request):
		made.serve = written
	default:
		run, err := reflected(written)
		if err != nil {
			return nil, err
		}
		made.run = run
	}
	return made, nil
}

// reflected calls a function whose input or result has a type of its own.
func reflected(written any) (func(*Context) (any, error), error) {
	value := reflect.ValueOf(written)
	shape := value.Type()
	refused := fmt.Errorf("the handler is a %s; write `func Handler(ctx *runtime.Context) (any, error)`, "+
		"`func Handler(ctx *runtime.Context, input Input) (Output, error)` or "+
		"`func Handle(w http.ResponseWriter, r *http.Request)`", shape)
	if shape.Kind() != reflect.Func || shape.IsVariadic() {
		return nil, refused
	}
	ins, outs := shape.NumIn(), shape.NumOut()
	if ins < 1 || ins > 2 || outs > 2 || (shape.In(0) != contextType && shape.In(0) != standardType) {
		return nil, refused
	}
	fails := outs > 0 && shape.Out(outs-1) == errorType
	if outs == 2 && !fails {
		return nil, refused
	}
	return func(ctx *Context) (any, error) {
		given := []reflect.Value{reflect.ValueOf(ctx)}
		if ins == 2 {
			input := reflect.New(shape.In(1))
			if err := ctx.Bind(input.Interface()); err != nil {
				return nil, err
			}
			given = append(given, input.Elem())
		}
		results := value.Call(given)
		if fails {
			if err, _ := results[outs-1].Interface().(error); err != nil {
				return nil, err
			}
		}
		if outs == 0 || (outs == 1 && fails) {
			return nil, nil
		}
		return results[0].Interface(), nil
	}, nil
}

// answer checks the input, calls the handler and gives the reply as JSON.
func (h *handler) answer(ctx *Context) ([]byte, error) {
	if h.check != nil {
		if err := h.check.refuse(ctx.call.body); err != nil {
			return nil, err
		}
	}
	most := ctx.call.worker.loaded.MaxOutput
	if h.serve != nil {
		return served(h.serve, ctx, most)
	}
	value, err := h.run(ctx)
	if err != nil {
		return nil, err
	}
	body, err := encode(value)
	if err != nil {
		return nil, fmt.Errorf("the return value cannot be written as JSON: %w", err)
	}
	if len(body) > most {
		return nil, tooLarge(most)
	}
	return body, nil
}

func tooLarge(most int) error {
	return fmt.Errorf("the return value is larger than %d bytes; return less, or a page of it", most)
}

func encode(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}
