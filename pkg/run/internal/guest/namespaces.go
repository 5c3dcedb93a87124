package guest

import (
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"peel/pkg/run/internal/proto"
)

// joinable are the namespaces a single thread can enter from inside the others.
// The rest (mount, pid, user, time) are entered before this program starts.
var joinable = map[specs.LinuxNamespaceType]int{
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
}

// namespaces enters the namespaces that are joined by path and furnishes those
// that are new.
func (g *guest) namespaces() error {
	own := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range g.Spec.Linux.Namespaces {
		kind, ok := joinable[ns.Type]
		if ns.Path == "" {
			own[ns.Type] = true
			continue
		}
		if !ok {
			continue
		}
		fd, err := unix.Open(ns.Path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return proto.Fail("join namespace", ns.Path, err)
		}
		// The kind makes the kernel refuse a namespace of another type.
		err = unix.Setns(fd, kind)
		unix.Close(fd)
		if err != nil {
			return proto.Fail("join namespace", ns.Path, err)
		}
	}
	if own[specs.NetworkNamespace] {
		if err := loopbackUp(); err != nil {
			return proto.Fail("bring up", "lo", err)
		}
	}
	if name := g.Spec.Hostname; name != "" {
		if err := unix.Sethostname([]byte(name)); err != nil {
			return proto.Fail("host name", name, err)
		}
	}
	if name := g.Spec.Domainname; name != "" {
		if err := unix.Setdomainname([]byte(name)); err != nil {
			return proto.Fail("domain name", name, err)
		}
	}
	if own[specs.CgroupNamespace] {
		// The view begins at the cgroup of the moment, and the parent has put us
		// into the container's before it sent the config.
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return proto.Fail("cgroup namespace", "", err)
		}
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return err
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP | unix.IFF_RUNNING)
	err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	runtime.KeepAlive(req)
	return err
}
