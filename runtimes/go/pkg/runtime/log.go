package runtime

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// What one call may log; the worker checks the bounds again.
const (
	maxLine    = 64 << 10
	maxLog     = 1 << 20
	maxEntries = 1000
)

// Logger writes lines of the call that it belongs to.
type Logger struct {
	call *call
}

// Debug logs a message, and beside it one value, or pairs of a name and a value.
func (l *Logger) Debug(message string, data ...any) { l.at("debug", message, data) }

// Info logs a message, and beside it one value, or pairs of a name and a value.
func (l *Logger) Info(message string, data ...any) { l.at("info", message, data) }

// Warn logs a message, and beside it one value, or pairs of a name and a value.
func (l *Logger) Warn(message string, data ...any) { l.at("warn", message, data) }

// Error logs a message, and beside it one value, or pairs of a name and a value.
func (l *Logger) Error(message string, data ...any) { l.at("error", message, data) }

func (l *Logger) at(level, message string, data []any) {
	// What was printed before it comes before it.
	l.call.worker.output.drain()
	l.call.worker.record(l.call, level, message, beside(data))
}

// beside makes one value of what was logged beside a message.
func beside(data []any) any {
	switch len(data) {
	case 0:
		return nil
	case 1:
		if err, isError := data[0].(error); isError {
			return map[string]any{"error": err.Error()}
		}
		return data[0]
	}
	named := make(map[string]any, len(data)/2)
	for at := 0; at < len(data); at += 2 {
		name, isText := data[at].(string)
		if !isText || at+1 == len(data) {
			return data
		}
		if err, isError := data[at+1].(error); isError {
			named[name] = err.Error()
		} else {
			named[name] = data[at+1]
		}
	}
	return named
}

type logEntry struct {
	Level     string `json:"level"`
	Message   string `json:"message"`
	Data      any    `json:"data,omitempty"`
	Timestamp string `json:"timestamp"`
}

// logBudget counts what one call has logged.
type logBudget struct {
	mutex   sync.Mutex
	entries int
	bytes   int
}

// take counts one line; `first` where it is the one that is too much.
func (b *logBudget) take(bytes int) (fits, first bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	before := b.entries <= maxEntries && b.bytes <= maxLog
	b.entries++
	b.bytes += bytes
	fits = b.entries <= maxEntries && b.bytes <= maxLog
	return fits, before && !fits
}

// record sends one line. `owner` is nil where it belongs to no call.
func (w *worker) record(owner *call, level, message string, data any) {
	if len(message) > maxLine {
		message = cut(message, maxLine-16) + "… [truncated]"
	}
	entry := logEntry{level, message, data, time.Now().UTC().Format("2006-01-02T15:04:05.000Z")}
	line, err := json.Marshal(entry)
	if err != nil {
		entry.Data = cut(fmt.Sprintf("%+v", data), 4096)
		line, _ = json.Marshal(entry)
	}
	if len(line) > 2*maxLine {
		entry.Data = "data left out: too large"
		line, _ = json.Marshal(entry)
	}
	stream := uint64(0)
	if owner != nil && !owner.ended.Load() {
		stream = owner.stream
		fits, first := owner.logged.take(len(line))
		if !fits && !first {
			return
		}
		if first {
			words := fmt.Sprintf("log truncated: one call may log %d lines and %d bytes", maxEntries, maxLog)
			line, _ = json.Marshal(logEntry{"warn", words, nil, entry.Timestamp})
		}
	}
	w.link.send(frameLog, stream, nil, line)
}
