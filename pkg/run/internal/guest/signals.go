package guest

import (
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/proto"
)

// heedSignals has the container's program begin with no signal ignored, whatever
// peel was started under: nohup(1) is about peel, and not about what it runs. The
// two are those that Go's runtime leaves as it finds them; the others have its
// handlers, which execve takes away.
func heedSignals() error {
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT} {
		if !signal.Ignored(sig) {
			continue
		}
		// All zeros is SIG_DFL, no flags and no mask, on every architecture.
		var action [4]uint64
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
		if errno != 0 {
			return proto.Fail("signals", "", errno)
		}
	}
	return nil
}
