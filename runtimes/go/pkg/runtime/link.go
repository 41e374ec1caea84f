package runtime

import (
	"bufio"
	"net"
	"os"
	"sync"
	"syscall"
)

const (
	readBuffer = 64 << 10
	// Who finds more than this waiting to be written waits until it is.
	mostQueued = 8 << 20
	// A buffer that has grown beyond this is given back.
	keptBuffer = 256 << 10
)

// link is this program's end of the socket: read by one goroutine, written by any.
type link struct {
	socket  net.Conn
	reader  *bufio.Reader
	mutex   sync.Mutex
	written *sync.Cond
	queued  []byte
	spare   []byte
	writing bool
}

// takeSocket takes the worker's socket away from descriptor 0, where user code and its children would read it.
func takeSocket() (*link, error) {
	file := os.NewFile(0, "worker")
	socket, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	nothing, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := duplicate(nothing, 0); err != nil {
		return nil, err
	}
	_ = syscall.Close(nothing)
	made := &link{socket: socket, reader: bufio.NewReaderSize(socket, readBuffer)}
	made.written = sync.NewCond(&made.mutex)
	return made, nil
}

// send writes one frame. What other goroutines send meanwhile leaves with the next system call of whoever writes.
func (l *link) send(kind byte, stream uint64, meta, body []byte) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for l.writing && len(l.queued) > mostQueued {
		l.written.Wait()
	}
	l.queued = appendFrame(l.queued, kind, stream, meta, body)
	if l.writing {
		return
	}
	l.writing = true
	for len(l.queued) > 0 {
		batch := l.queued
		l.queued = l.spare[:0]
		l.mutex.Unlock()
		_, err := l.socket.Write(batch)
		l.mutex.Lock()
		if err != nil {
			// The worker is gone, and so is all that this program was for.
			os.Exit(0)
		}
		l.spare = batch[:0]
		if cap(batch) > keptBuffer {
			l.spare = nil
		}
		l.written.Broadcast()
	}
	l.writing = false
	l.written.Broadcast()
}

// flush returns when everything that was sent before is written.
func (l *link) flush() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for l.writing {
		l.written.Wait()
	}
}
