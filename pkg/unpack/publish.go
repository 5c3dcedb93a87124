package unpack

import (
	"os"

	"golang.org/x/sys/unix"
)

// publish completes the result and has it appear at DIR.
func (u *unpacker) publish() error {
	if u.o.Form == Bundle && u.o.Finish != nil {
		if err := u.finish(); err != nil {
			return err
		}
	}
	if u.o.Sync {
		if err := unix.Syncfs(u.staging.fd()); err != nil {
			return err
		}
	}
	return u.staging.publish()
}

// finish lets the caller add to the bundle.
func (u *unpacker) finish() error {
	bundle, err := openFile(u.staging.fd(), "tree")
	if err != nil {
		return err
	}
	defer bundle.Close()
	rootfs, err := openFile(int(bundle.Fd()), "rootfs")
	if err != nil {
		return err
	}
	defer rootfs.Close()
	return u.o.Finish(bundle, rootfs)
}

func openFile(dirfd int, name string) (*os.File, error) {
	fd, err := openSub(dirfd, name)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
