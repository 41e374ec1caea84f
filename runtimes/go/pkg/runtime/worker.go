package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	standard "runtime"
	"runtime/debug"
	"sync"
)

const protocol = 1

// Declared is what a function's code declares.
type Declared struct {
	// Handler answers the calls; see Serve.
	Handler any
	// Schema of its input, where it has one.
	Schema *Schema
}

type loadMeta struct {
	Name      string            `json:"name"`
	Env       map[string]string `json:"env"`
	MaxOutput int               `json:"max_output"`
	MemoryMib int64             `json:"memory_mib"`
}

type worker struct {
	link    *link
	output  *output
	loaded  loadMeta
	handler *handler
	calls   openCalls

	mutex    sync.Mutex
	live     map[uint64]*call
	draining bool
}

// Serve answers calls until the server closes the connection. The server itself adds the `main` that calls it; there
// is no need to.
func Serve(declared Declared) {
	link, err := takeSocket()
	if err != nil {
		fmt.Fprintln(os.Stderr, "a function is run by the server: put its file into the functions folder, then call it")
		os.Exit(2)
	}
	w := &worker{link: link, live: map[uint64]*call{}}
	w.calls.start()
	if w.output, err = captureOutput(w.printed); err != nil {
		fmt.Fprintln(os.Stderr, "the output cannot be taken:", err)
		os.Exit(2)
	}
	w.link.send(frameHello, 0, []byte(fmt.Sprintf(`{"protocol":%d}`, protocol)), nil)
	for {
		one, err := readFrame(link.reader)
		if err != nil {
			w.leave(err)
		}
		w.take(declared, one)
	}
}

func (w *worker) leave(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		os.Exit(0)
	}
	os.Exit(1)
}

func (w *worker) take(declared Declared, one frame) {
	switch one.kind {
	case frameInvoke:
		w.begin(one)
	case frameCallResult:
		w.calls.settle(one)
	case frameCancel:
		w.cancel(one)
	case framePing:
		w.link.send(framePong, one.stream, nil, nil)
	case frameLoad:
		w.load(declared, one.meta)
	case frameDrain:
		w.mutex.Lock()
		w.draining = true
		last := len(w.live) == 0
		w.mutex.Unlock()
		if last {
			w.end()
		}
	}
}

func (w *worker) end() {
	w.link.flush()
	os.Exit(0)
}

func (w *worker) load(declared Declared, meta []byte) {
	err := json.Unmarshal(meta, &w.loaded)
	if err == nil {
		debug.SetMemoryLimit(w.loaded.MemoryMib << 20)
		useOneProcessor()
		w.handler, err = handlerOf(declared)
	}
	if err != nil {
		w.link.send(frameError, 0, toldError{Message: err.Error()}.encoded(maxMessage), nil)
		return
	}
	w.link.send(frameReady, 0, []byte("{}"), nil)
}

// useOneProcessor keeps this program's calls on one processor, where nobody has said otherwise. With more, Go wakes
// another thread for each call, which looks for work and takes the processor from the server: a short call then takes
// twice as long. More processors are used by more processes.
func useOneProcessor() {
	if os.Getenv("GOMAXPROCS") == "" && standard.GOMAXPROCS(0) == standard.NumCPU() {
		standard.GOMAXPROCS(1)
	}
}

// printed takes a line that names no call.
func (w *worker) printed(level, line string) {
	w.mutex.Lock()
	var only *call
	if len(w.live) == 1 {
		for _, one := range w.live {
			only = one
		}
	}
	w.mutex.Unlock()
	w.record(only, level, line, nil)
}

func (w *worker) cancel(one frame) {
	w.mutex.Lock()
	found := w.live[one.stream]
	w.mutex.Unlock()
	if found == nil {
		return
	}
	if len(one.meta) > 0 {
		found.cancel(errAbandoned)
		return
	}
	found.cancel(errDeadline)
	select {
	case <-found.overdue:
	default:
		close(found.overdue)
	}
}

func (w *worker) begin(one frame) {
	inner, cancel := context.WithCancelCause(context.Background())
	begun := &call{worker: w, stream: one.stream, body: one.body, cancel: cancel, overdue: make(chan struct{})}
	w.mutex.Lock()
	w.live[one.stream] = begun
	w.mutex.Unlock()
	go w.run(inner, begun, one.meta)
}

func (w *worker) run(inner context.Context, one *call, meta []byte) {
	over := false
	defer func() {
		thrown := recover()
		if over {
			return
		}
		if thrown == nil {
			w.fail(one, errors.New("the handler ended its goroutine (runtime.Goexit) and not with a return"), "")
			return
		}
		w.fail(one, fmt.Errorf("panic: %v", thrown), stackOfPanic())
	}()
	ctx, err := w.contextOf(inner, one, meta)
	var body []byte
	if err == nil {
		body, err = w.handler.answer(ctx)
	}
	over = true
	if err != nil {
		w.fail(one, err, "")
		return
	}
	w.finish(one, frameResult, nil, body)
}

func (w *worker) fail(one *call, err error, stack string) {
	told, coded := describe(err)
	if !coded {
		var data any
		if stack != "" {
			data = map[string]string{"stack": stack}
		}
		w.output.finish()
		w.record(one, "error", told.Message, data)
	}
	w.finish(one, frameError, told.encoded(w.loaded.MaxOutput), nil)
}

// finish ends a call, once everything that it printed is told.
func (w *worker) finish(one *call, kind byte, meta, body []byte) {
	w.output.finish()
	one.ended.Store(true)
	one.cancel(nil)
	w.mutex.Lock()
	delete(w.live, one.stream)
	last := w.draining && len(w.live) == 0
	w.mutex.Unlock()
	w.link.send(kind, one.stream, meta, body)
	if last {
		w.end()
	}
}
