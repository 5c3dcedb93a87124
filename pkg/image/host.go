package image

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"peel/pkg/erofs"
)

// UnsupportedError says why prepared images cannot be mounted here. The way that
// always works is to unpack them into files.
type UnsupportedError struct{ Why string }

func (e *UnsupportedError) Error() string { return "prepared images cannot be mounted: " + e.Why }

// Supported tells whether this process may try to mount prepared images: nil, or an
// *UnsupportedError. Where even that has no sense, the answer is there at once; what
// depends on the cache's file system, only Check knows.
func Supported() error {
	if err := kernelCan(); err != nil {
		return err
	}
	fd, err := openErofs()
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Check tells whether this host can mount what the cache holds: nil, or an
// *UnsupportedError. It tries, so the answer is right, and takes its time: the
// kernel lets nobody go on before a mount is gone everywhere.
func (c *Cache) Check() error {
	if err := kernelCan(); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.root+"/erofs", checkPrefix)
	if err != nil {
		return err
	}
	_, err = erofs.WriteIndex(f, &erofs.Inode{Mode: unix.S_IFDIR | 0o700}, nil, erofs.Options{})
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	m, err := mountFiles(f.Name(), nil)
	if err == nil {
		err = m.Close()
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// kernelCan tells whether a mount may be tried. It must not be where the kernel
// would break: before 6.13, blocks smaller than a page on a file panic
// (CVE-2024-56750). Distributions have mended older kernels, which one cannot tell.
func kernelCan() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return os.NewSyscallError("uname", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	if !recent(release) {
		return &UnsupportedError{"Linux " + release + " is older than 6.13"}
	}
	// EROFS cannot be mounted in a user namespace, even by its root.
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	if f := strings.Fields(string(ids)); len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295" {
		return &UnsupportedError{"this is not the initial user namespace"}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	if caps[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return &UnsupportedError{"this process lacks CAP_SYS_ADMIN"}
	}
	return nil
}

func recent(release string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 6 || major == 6 && minor >= 13
}
