//go:build !linux

package runtime

import "syscall"

func duplicate(from, to int) error {
	return syscall.Dup2(from, to)
}

func nonBlockingPipe() (read, write int, err error) {
	var ends [2]int
	if err = syscall.Pipe(ends[:]); err != nil {
		return 0, 0, err
	}
	for _, end := range ends {
		syscall.CloseOnExec(end)
		if err = syscall.SetNonblock(end, true); err != nil {
			return 0, 0, err
		}
	}
	return ends[0], ends[1], nil
}
