package runtime

import (
	"bytes"
	"log"
	"os"
	"sync"
	"syscall"
)

// output takes what user code prints: os.Stdout, os.Stderr and package log.
//
// A printed line names no call, so it belongs to the call that runs where there is exactly one, and to none otherwise.
type output struct {
	pipes []*pipe
}

// pipe stands in for one of the standard streams. It is emptied by whoever comes first: the goroutine that waits for
// it, or a call that is about to end and whose lines must be told before its end.
type pipe struct {
	read  int
	level string
	emit  func(level, line string)
	mutex sync.Mutex
	rest  []byte
	room  []byte
}

func captureOutput(emit func(level, line string)) (*output, error) {
	taken := &output{}
	streams := []struct {
		level string
		stand **os.File
	}{{"info", &os.Stdout}, {"error", &os.Stderr}}
	for _, stream := range streams {
		read, write, err := nonBlockingPipe()
		if err != nil {
			return nil, err
		}
		again, err := syscall.Dup(read)
		if err != nil {
			return nil, err
		}
		syscall.CloseOnExec(again)
		waiting, err := os.NewFile(uintptr(again), "printed").SyscallConn()
		if err != nil {
			return nil, err
		}
		*stream.stand = os.NewFile(uintptr(write), (*stream.stand).Name())
		one := &pipe{read: read, level: stream.level, emit: emit, room: make([]byte, 4096)}
		taken.pipes = append(taken.pipes, one)
		go func() {
			// It is never done: the other end stays open as long as the program runs.
			_ = waiting.Read(func(uintptr) bool {
				one.drain(false)
				return false
			})
		}()
	}
	log.SetFlags(0)
	log.SetOutput(lineWriter{emit})
	return taken, nil
}

// drain hands on the whole lines that were printed so far.
func (o *output) drain() {
	for _, one := range o.pipes {
		one.drain(false)
	}
}

// finish hands on what was printed without a line's end too.
func (o *output) finish() {
	for _, one := range o.pipes {
		one.drain(true)
	}
}

func (p *pipe) drain(all bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for {
		count, err := syscall.Read(p.read, p.room)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || count <= 0 {
			break
		}
		p.rest = append(p.rest, p.room[:count]...)
		p.lines()
	}
	if all && len(p.rest) > 0 {
		p.emit(p.level, string(p.rest))
		p.rest = p.rest[:0]
	}
}

func (p *pipe) lines() {
	left := p.rest
	for {
		line, after, found := bytes.Cut(left, []byte{'\n'})
		if !found && len(left) <= maxLine {
			break
		}
		if len(line) > 0 {
			p.emit(p.level, string(line))
		}
		left = after
	}
	p.rest = append(p.rest[:0], left...)
}

// lineWriter is where package log writes: one call for each line.
type lineWriter struct {
	emit func(level, line string)
}

func (w lineWriter) Write(line []byte) (int, error) {
	w.emit("info", string(bytes.TrimRight(line, "\n")))
	return len(line), nil
}
