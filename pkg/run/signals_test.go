package run

import (
	"bufio"
	"os/signal"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// nohup is about peel, and not about what it runs: runc and docker start programs
// with no signal ignored, too.
func TestProgramsIgnoreNoSignalThatTheCallerIgnores(t *testing.T) {
	needRoot(t)
	signal.Ignore(unix.SIGHUP, unix.SIGINT)
	defer signal.Reset(unix.SIGHUP, unix.SIGINT)
	rt := newRuntime(t)
	root := newRootfs(t, nil)

	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, probeSpec(t, "status", "SigIgn:"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, w := newPipe(t)
	p, err := c.Start(Streams{Out: w, Err: w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	noneIgnored(t, "the first process", line)

	other := startDetached(t, rt, root, CreateOptions{}, "wait")
	_, line, err = execOutput(t, other, ExecOptions{}, "status", "SigIgn:")
	if err != nil {
		t.Fatal(err)
	}
	noneIgnored(t, "one that joined", line)
}

func noneIgnored(t *testing.T, who, line string) {
	t.Helper()
	_, mask, _ := strings.Cut(strings.TrimSpace(line), "\t")
	n, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		t.Fatalf("%s: %q: %v", who, line, err)
	}
	if n&(1<<(unix.SIGHUP-1)|1<<(unix.SIGINT-1)) != 0 {
		t.Errorf("%s ignores signals: %s", who, line)
	}
}
