package run

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setting reads a file of a container's cgroup, of the version that the machine
// has.
func setting(t *testing.T, c *Container, controller, v1, v2 string) string {
	t.Helper()
	var st state
	if err := readJSON(c.rt.stateFile(c.ID), &st); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(st.Cgroups[controller], v1)
	if cgroupV2() {
		file = filepath.Join(st.Cgroups[""], v2)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// aDisk is a disk of the machine, whatever it is.
func aDisk(t *testing.T) (major, minor int64, ok bool) {
	t.Helper()
	devs, err := filepath.Glob("/sys/block/*/device/../dev") // of hardware, or what is taken for it
	if err != nil {
		t.Fatal(err)
	}
	for _, dev := range devs {
		b, err := os.ReadFile(dev)
		if err != nil {
			continue
		}
		first, second, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
		major, err1 := strconv.ParseInt(first, 10, 64)
		minor, err2 := strconv.ParseInt(second, 10, 64)
		if err1 == nil && err2 == nil {
			return major, minor, true
		}
	}
	return 0, 0, false
}

func pointer[T any](v T) *T { return &v }

func TestLimitsReachTheKernel(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	s := probeSpec(t, "wait")
	r := s.Linux.Resources
	r.Memory = &specs.LinuxMemory{Limit: pointer(int64(64 << 20)), Swap: pointer(int64(96 << 20)), Reservation: pointer(int64(32 << 20))}
	r.CPU = &specs.LinuxCPU{Quota: pointer(int64(50000)), Period: pointer(uint64(100000)), Shares: pointer(uint64(512)), Cpus: "0"}
	r.Pids = &specs.LinuxPids{Limit: pointer(int64(20))}
	major, minor, disk := aDisk(t)
	if disk {
		d := specs.LinuxThrottleDevice{Rate: 1 << 20}
		d.Major, d.Minor = major, minor
		r.BlockIO = &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{d}}
	}
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	waitForLine(t, c, "ready")
	for _, want := range []struct{ controller, v1, inV1, v2, inV2 string }{
		{"memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"},
		{"memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"},
		// Version 1 counts memory and swap together, version 2 swap alone.
		{"memory", "memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432"},
		{"cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"},
		{"cpu", "cpu.shares", "512", "cpu.weight", "59"},
		{"cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"},
		{"pids", "pids.max", "20", "pids.max", "20"},
	} {
		value := want.inV1
		if cgroupV2() {
			value = want.inV2
		}
		if got := setting(t, c, want.controller, want.v1, want.v2); got != value {
			t.Errorf("%s or %s: %s, want %s", want.v1, want.v2, got, value)
		}
	}
	if disk {
		dev := strconv.FormatInt(major, 10) + ":" + strconv.FormatInt(minor, 10)
		if got := setting(t, c, "blkio", "blkio.throttle.read_bps_device", "io.max"); !strings.HasPrefix(got, dev+" 1048576") && !strings.HasPrefix(got, dev+" rbps=1048576") {
			t.Errorf("reads of %s: %q", dev, got)
		}
	}
	if err := c.Kill(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := cgroupsOf(c.ID); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestNoMoreProcessesThanAllowed(t *testing.T) {
	needRoot(t)
	s := probeSpec(t, "forks", "50")
	s.Linux.Resources.Pids = &specs.LinuxPids{Limit: pointer(int64(30))}
	r := runOnce(t, newRuntime(t), newRootfs(t, nil), s, CreateOptions{})
	if n, err := strconv.Atoi(strings.TrimSpace(r.stdout)); err != nil || n >= 30 {
		t.Errorf("%d children: %+v", n, r)
	}
}

func cgroupV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

func TestExecIsInTheContainersCgroups(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	p, err := c.Exec(ExecOptions{Args: []string{"/bin/probe", "hang"}}, Streams{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("/proc/" + strconv.Itoa(status(t, c).Pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid()) + "/cgroup"); string(got) != string(want) || err != nil {
		t.Errorf("in %q, %v; the container is in %q", got, err, want)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWhoTakesTooMuchMemoryIsSaidToHave(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	for _, c := range []struct {
		name   string
		limit  int64
		code   int
		killed bool
	}{
		{"more than there is", 32 << 20, 137, true},
		{"less", 256 << 20, 0, false},
	} {
		s := probeSpec(t, "memory", "100")
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &c.limit, Swap: &c.limit}
		box, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := box.Start(Streams{})
		if err != nil {
			t.Fatal(err)
		}
		code, err := p.Wait()
		if st := status(t, box); code != c.code || err != nil || st.OOMKilled != c.killed {
			t.Errorf("%s: exit code %d, %v, %+v", c.name, code, err, st)
		}
	}
}

// Nothing is behind character device 1:12: to open it is ENXIO, unless the cgroup
// is asked first and refuses.
func TestDevicesAreOpenedByRule(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	any := func(access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: pointer(int64(1)), Minor: pointer(int64(12)), Access: access}
	}
	for _, c := range []struct {
		name        string
		rules       []specs.LinuxDeviceCgroup
		read, write string
	}{
		{"none", nil, "operation not permitted", "operation not permitted"},
		{"reading", []specs.LinuxDeviceCgroup{any("r")}, "no such device or address", "operation not permitted"},
		{"all", []specs.LinuxDeviceCgroup{any("rwm")}, "no such device or address", "no such device or address"},
	} {
		for _, try := range []struct {
			want string
			args []string
		}{{c.read, []string{"cat", "/dev/nothing"}}, {c.write, []string{"write", "/dev/nothing", "x"}}} {
			s := probeSpec(t, try.args...)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/nothing", Type: "c", Major: 1, Minor: 12}}
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, c.rules...)
			if r := runOnce(t, rt, root, s, CreateOptions{}); r.err != nil || !strings.Contains(r.stderr, try.want) {
				t.Errorf("allowed %s: %s: %+v, want %q", c.name, try.args[0], r, try.want)
			}
		}
	}
	// What every container may.
	if r := runOnce(t, rt, root, probeSpec(t, "write", "/dev/null", "x"), CreateOptions{}); r.err != nil || r.code != 0 {
		t.Errorf("/dev/null: %+v", r)
	}
}
