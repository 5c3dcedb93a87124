package run

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestTraffic(t *testing.T) {
	const heads = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
	for name, test := range map[string]struct{ lines, want string }{
		"no interface":           {"", "0 0"},
		"loopback is not a wire": {"    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n", "0 0"},
		"all others add up":      {"  eth0:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth1: 1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n", "11 22"},
		"nonsense":               {"  eth0: x 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n", "- -"},
		"cut off":                {"  eth0: 5 1\n", "0 0"},
	} {
		in, out := traffic(strings.NewReader(heads + test.lines))
		got := "- -"
		if in != nil && out != nil {
			got = fmt.Sprint(*in, " ", *out)
		}
		if got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

// What a container without a cgroup is found by.
func TestKinAreTheDescendants(t *testing.T) {
	sh := exec.Command("sh", "-c", `sleep 1000 & echo $!; read x; kill $!`)
	in, keep, err := os.Pipe() // it reads until keep is closed
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	sh.Stdin = in
	out, err := sh.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	defer sh.Wait()
	defer keep.Close()
	lines := bufio.NewScanner(out)
	var child int
	for lines.Scan() {
		if child, err = strconv.Atoi(lines.Text()); err == nil {
			break
		}
	}
	pids, err := kin(sh.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(pids, sh.Process.Pid) || !slices.Contains(pids, child) || slices.Contains(pids, os.Getpid()) || slices.Contains(pids, 1) {
		t.Errorf("got %v, want %d and %d, and neither %d nor 1", pids, sh.Process.Pid, child, os.Getpid())
	}
}

func TestUsageOfAContainer(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, probeSpec(t, "wait"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Usage(); err != ErrNotRunning {
		t.Errorf("before the start: %v, want ErrNotRunning", err)
	}
	p, err := c.Start(Streams{})
	if err != nil {
		t.Fatal(err)
	}
	u, err := c.Usage()
	if err != nil || u.CPU == nil || *u.CPU <= 0 || u.Memory == nil || *u.Memory == 0 || u.MemoryLimit == nil || *u.Memory > *u.MemoryLimit || u.Pids == nil || *u.Pids == 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if pids, err := c.Pids(); err != nil || !slices.Contains(pids, p.Pid()) {
		t.Errorf("processes %v, %v: want %d", pids, err, p.Pid())
	}
	p.Signal(9)
	p.Wait()
	if _, err := c.Pids(); err != ErrNotRunning {
		t.Errorf("after the end: %v, want ErrNotRunning", err)
	}
}
