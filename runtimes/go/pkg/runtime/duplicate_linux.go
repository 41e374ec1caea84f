package runtime

import "syscall"

func duplicate(from, to int) error {
	return syscall.Dup3(from, to, 0)
}

func nonBlockingPipe() (read, write int, err error) {
	var ends [2]int
	err = syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK)
	return ends[0], ends[1], err
}
