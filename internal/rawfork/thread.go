package rawfork

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// OnSpentThread runs f on a thread that ends with it, so that what f changes of
// the thread concerns nobody else. The main thread is the one that the Go runtime
// cannot end: it would stay in a container's cgroups, or keep its descriptors
// open, for good.
func OnSpentThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked, and so the thread ends
		if unix.Gettid() == unix.Getpid() {
			done <- OnSpentThread(f) // on another, as this one is taken
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}
