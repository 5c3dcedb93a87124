package image

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"peel/internal/detached"
)

// mountLoops is mountFiles by way of loop devices, one for each file. A device is
// the kernel's to free, when the mount that has it open is gone.
func mountLoops(index string, devices []string) (*detached.Mount, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, &UnsupportedError{"no loop devices: " + err.Error()}
	}
	defer ctl.Close()
	var loops []*os.File
	defer func() {
		for _, l := range loops {
			l.Close()
		}
	}()
	var names []string
	for _, path := range append([]string{index}, devices...) {
		l, err := newLoop(ctl, path)
		if err != nil {
			return nil, err
		}
		loops, names = append(loops, l), append(names, l.Name())
	}
	return mountFiles(names[0], names[1:])
}

// loopTries is how often another process may be faster with the device that was free
// a moment ago.
const loopTries = 100

// newLoop makes a loop device of a file. It is free again when nobody has it open.
func newLoop(ctl *os.File, path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Never with direct I/O: it would want its own alignment of the tars, and read
	// past the page cache that they are in.
	cfg := unix.LoopConfig{Fd: uint32(f.Fd()), Size: blockSize}
	cfg.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], path) // for losetup(8) to show
	for range loopTries {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, &os.PathError{Op: "find a free loop device by", Path: ctl.Name(), Err: err}
		}
		l, err := os.Open(fmt.Sprint("/dev/loop", n))
		if err != nil {
			return nil, &UnsupportedError{"no loop devices: " + err.Error()}
		}
		err = unix.IoctlLoopConfigure(int(l.Fd()), &cfg)
		if err == nil {
			return l, nil
		}
		l.Close()
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) { // by a device cgroup, say
			return nil, &UnsupportedError{"no loop devices: " + err.Error()}
		}
		if !errors.Is(err, unix.EBUSY) {
			return nil, &os.PathError{Op: "make a loop device of", Path: path, Err: err}
		}
	}
	return nil, &os.PathError{Op: "make a loop device of", Path: path, Err: unix.EBUSY}
}
