package runtime

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// Frames between this program and its worker (docs/adr/0003-function-frames.md):
//
//	u32 length of what follows | u8 type | u64 stream | u32 length of meta | meta (JSON) | body (raw)
//
// Integers are little-endian.
const (
	frameHello byte = iota + 1
	frameLoad
	frameReady
	frameInvoke
	frameResult
	frameError
	frameCall
	frameCallResult
	frameLog
	frameCancel
	framePing
	framePong
	frameDrain
)

const (
	headerSize = 17
	maxFrame   = 64 << 20
)

type frame struct {
	kind   byte
	stream uint64
	meta   []byte
	body   []byte
}

func readFrame(from *bufio.Reader) (frame, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return frame{}, err
	}
	size := binary.LittleEndian.Uint32(head[:4])
	metaSize := binary.LittleEndian.Uint32(head[13:])
	if size < headerSize-4 || size > maxFrame || metaSize > size-(headerSize-4) {
		return frame{}, fmt.Errorf("a frame of %d bytes with %d of meta is outside the protocol", size, metaSize)
	}
	rest := make([]byte, size-(headerSize-4))
	if _, err := io.ReadFull(from, rest); err != nil {
		return frame{}, err
	}
	return frame{
		kind:   head[4],
		stream: binary.LittleEndian.Uint64(head[5:]),
		meta:   rest[:metaSize:metaSize],
		body:   rest[metaSize:],
	}, nil
}

func appendFrame(to []byte, kind byte, stream uint64, meta, body []byte) []byte {
	to = binary.LittleEndian.AppendUint32(to, uint32(headerSize-4+len(meta)+len(body)))
	to = append(to, kind)
	to = binary.LittleEndian.AppendUint64(to, stream)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(meta)))
	to = append(to, meta...)
	return append(to, body...)
}
