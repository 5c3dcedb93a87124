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
	if _, err := newHost(); err != nil {
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
	h, err := newHost()
	if err != nil {
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
	m, err := h.mount(f.Name(), nil)
	if err == nil {
		err = m.Close()
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// host is what the kernel lets this process do.
type host struct {
	// files: a file can be mounted as it is. Otherwise it takes a loop device.
	files bool
}

// newHost finds out whether a mount may be tried, and which; *UnsupportedError.
func newHost() (host, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return host{}, os.NewSyscallError("uname", err)
	}
	h, err := hostOf(unix.ByteSliceToString(u.Release[:]))
	if err != nil {
		return host{}, err
	}
	// EROFS cannot be mounted in a user namespace, even by its root.
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return host{}, err
	}
	if f := strings.Fields(string(ids)); len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295" {
		return host{}, &UnsupportedError{"this is not the initial user namespace"}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return host{}, os.NewSyscallError("capget", err)
	}
	if caps[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return host{}, &UnsupportedError{"this process lacks CAP_SYS_ADMIN"}
	}
	return h, nil
}

// hostOf goes by the kernel's version, as one must not try where it would break:
// before 6.13, blocks smaller than a page on a file panic (CVE-2024-56750).
// Distributions have mended older kernels, which one cannot tell. On block devices
// there are such blocks since 6.4.
func hostOf(release string) (host, error) {
	switch {
	case since(release, 6, 13):
		return host{files: true}, nil
	case since(release, 6, 4):
		return host{}, nil
	}
	return host{}, &UnsupportedError{"Linux " + release + " is older than 6.4"}
}

func since(release string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(release, "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}
