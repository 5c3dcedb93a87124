package run

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// console is one who types and reads.
type console struct {
	t     *testing.T
	types *os.File
	reads *bufio.Reader
	done  chan relayed
}

type relayed struct {
	code int
	err  error
}

// sit connects a console with an attachment.
func sit(t *testing.T, a *Attachment, keys []byte) *console {
	t.Helper()
	inR, inW := newPipe(t)
	outR, outW := newPipe(t)
	c := &console{t: t, types: inW, reads: bufio.NewReader(outR), done: make(chan relayed, 1)}
	go func() {
		code, err := a.Relay(Console{In: inR, Out: outW, Err: outW, DetachKeys: keys})
		outW.Close()
		c.done <- relayed{code, err}
	}()
	return c
}

func (c *console) expect(line string) {
	c.t.Helper()
	for {
		got, err := c.reads.ReadString('\n')
		if strings.TrimRight(got, "\r\n") == line {
			return
		}
		if err != nil {
			c.t.Fatalf("%q and then %v; want a line %q", got, err, line)
		}
	}
}

func attach(t *testing.T, c *Container) *Attachment {
	t.Helper()
	a, err := c.Attach()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var leave = []byte{'p' & 0x1f, 'q' & 0x1f}

func TestAContainerIsLeftAndJoinedAgain(t *testing.T) {
	needRoot(t)
	leftAndJoined(t, func(t *testing.T, args ...string) *specs.Spec { return probeSpec(t, args...) })
}

func TestUsersLeaveAndJoinContainers(t *testing.T) {
	if !asUser(t) {
		return
	}
	needUserNamespaces(t)
	leftAndJoined(t, userSpec)
}

func leftAndJoined(t *testing.T, spec func(*testing.T, ...string) *specs.Spec) {
	rt := newRuntime(t)
	s := spec(t, "echo")
	s.Process.Terminal = true
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{OpenStdin: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.StartAttached()
	if err != nil {
		t.Fatal(err)
	}
	one := sit(t, first, leave)
	one.types.WriteString("typed\n")
	one.expect("typed") // the terminal's echo
	one.expect("typed")
	one.types.Write(leave)
	if r := <-one.done; !errors.Is(r.err, ErrDetached) {
		t.Fatalf("after the detach keys: %+v", r)
	}
	if s := status(t, c); s.Phase != Running || s.Unattended {
		t.Fatalf("after the detach keys: %+v", s)
	}
	// All who are attached see the same.
	two, three := sit(t, attach(t, c), leave), sit(t, attach(t, c), nil)
	two.types.WriteString("again\n")
	two.expect("again")
	three.expect("again")
	three.types.WriteString("and again\n")
	two.expect("and again")
	two.types.Write(leave)
	if r := <-two.done; !errors.Is(r.err, ErrDetached) {
		t.Errorf("after the detach keys: %+v", r)
	}
	// The end of a line's input, in the way of terminals.
	three.types.Close()
	if r := <-three.done; r != (relayed{}) {
		t.Errorf("at the end: %+v", r)
	}
	if code, err := c.Wait(t.Context()); code != 0 || err != nil {
		t.Errorf("the end: %d, %v", code, err)
	}
	if _, err := c.Attach(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("attach after the end: %v", err)
	}
	// What was printed is also in the log.
	var log string
	if err := c.Logs(t.Context(), LogOptions{}, func(e LogEntry) error { log += e.Text; return nil }); err != nil || !strings.Contains(log, "and again") {
		t.Errorf("log %q, %v", log, err)
	}
}

func TestTheExitCodeOfAnAttachedContainerIsKnownWhenItIsGone(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	s := probeSpec(t, "exit", "42")
	s.Process.Terminal = true
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{AutoRemove: true})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.StartAttached()
	if err != nil {
		t.Fatal(err)
	}
	code, err := a.Relay(Console{Out: devNull(t)})
	if code != 42 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	if _, err := rt.Get(c.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}

func devNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAProgramWithoutATerminalTellsItsStreamsApart(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, probeSpec(t, "talk", "20000"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.StartAttached()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW := newPipe(t)
	errR, errW := newPipe(t)
	read := func(r io.Reader) chan int {
		lines := make(chan int, 1)
		go func() {
			b, _ := io.ReadAll(r)
			lines <- bytes.Count(b, []byte("\n"))
		}()
		return lines
	}
	outs, errs := read(outR), read(errR)
	code, err := a.Relay(Console{Out: outW, Err: errW})
	outW.Close()
	errW.Close()
	if n, m := <-outs, <-errs; n != 20000 || m != 20000 || code != 0 || err != nil {
		t.Errorf("%d lines and %d, code %d, %v", n, m, code, err)
	}
}

// The input of `run -i` ends with that of the caller; one of `run -d -i` stays for
// the next who attaches.
func TestAnInputEndsWithThatOfItsStarter(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	c, err := rt.Create(t.Context(), Rootfs{Dir: root}, probeSpec(t, "echo"), CreateOptions{OpenStdin: true})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.StartAttached()
	if err != nil {
		t.Fatal(err)
	}
	one := sit(t, a, leave)
	one.types.WriteString("typed\n")
	one.expect("typed")
	one.types.Close()
	if r := <-one.done; r != (relayed{}) {
		t.Errorf("%+v", r)
	}
	if err := c.StartDetached(); err != nil {
		t.Fatal(err)
	}
	var there []*console
	for _, line := range []string{"first", "second"} {
		one := sit(t, attach(t, c), leave)
		one.types.WriteString(line + "\n")
		one.types.Close()
		one.expect(line)
		there = append(there, one)
	}
	if s := status(t, c); s.Phase != Running {
		t.Errorf("%+v", s)
	}
	if err := c.Kill(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	for _, one := range there {
		if r := <-one.done; r != (relayed{code: 137}) {
			t.Errorf("%+v", r)
		}
	}
}

func TestWhoAttachesGivesTheTerminalHisSize(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	s := probeSpec(t, "sizes")
	s.Process.Terminal, s.Process.ConsoleSize = true, boxOf(80, 24)
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, s, CreateOptions{OpenStdin: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.StartAttached()
	if err != nil {
		t.Fatal(err)
	}
	one := sit(t, first, leave)
	one.expect("ready")
	a := attach(t, c)
	a.resize(25, 81)
	one.expect("81x25")
	a.Close()
	one.types.WriteString("\n")
	if r := <-one.done; r != (relayed{}) {
		t.Errorf("%+v", r)
	}
}

func TestWhoIsInTheForegroundCannotBeAttachedTo(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c, err := rt.Create(t.Context(), Rootfs{Dir: newRootfs(t, nil)}, probeSpec(t, "hang"), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("before the start: %v", err)
	}
	p, err := c.Start(Streams{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach(); !errors.Is(err, ErrNotAttachable) {
		t.Errorf("%v", err)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWhoIsAttachedLearnsThatTheMonitorWasKilled(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "hang")
	waitForLine(t, c, "ready")
	a := attach(t, c)
	if err := unix.Kill(parentOf(t, status(t, c).Pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Relay(Console{Out: devNull(t)}); !errors.Is(err, ErrMonitorGone) {
		t.Errorf("%v", err)
	}
	if err := c.waitUnattended(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := status(t, c); s.Phase != Running || !s.Unattended {
		t.Errorf("%+v", s)
	}
	if _, err := c.Attach(); !errors.Is(err, ErrNotAttachable) {
		t.Errorf("%v", err)
	}
}

// The program that is left keeps its terminal, and is not held up by what it
// prints there.
func TestAProgramThatJoinedIsLeftToItself(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	c := startDetached(t, rt, newRootfs(t, nil), CreateOptions{}, "wait")
	waitForLine(t, c, "ready")
	exec := func(args ...string) (*Process, *console) {
		p, err := c.Exec(ExecOptions{Args: append([]string{"/bin/probe"}, args...), Terminal: true}, Streams{})
		if err != nil {
			t.Fatal(err)
		}
		inR, inW := newPipe(t)
		outR, outW := newPipe(t)
		one := &console{t: t, types: inW, reads: bufio.NewReader(outR), done: make(chan relayed, 1)}
		go func() {
			wait, err := p.Relay(Console{In: inR, Out: outW, DetachKeys: leave})
			code := 0
			if err == nil {
				code, err = wait()
			}
			one.done <- relayed{code, err}
		}()
		return p, one
	}
	p, one := exec("sizes")
	one.expect("ready")
	birth := bornAt(p.Pid())
	one.types.Write(leave)
	if r := <-one.done; !errors.Is(r.err, ErrDetached) {
		t.Fatalf("%+v", r)
	}
	if bornAt(p.Pid()) != birth || birth == 0 {
		t.Error("it has ended")
	}
	// More than a terminal holds, and then a file that says so.
	_, one = exec("talkfile", "5000", "/done")
	one.types.Write(leave)
	if r := <-one.done; !errors.Is(r.err, ErrDetached) {
		t.Fatalf("%+v", r)
	}
	for code := 1; code != 0; {
		var err error
		if code, _, err = execOutput(t, c, ExecOptions{}, "cat", "/done"); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

func TestDetachKeysAreFoundWhereverTheyAreTyped(t *testing.T) {
	for _, c := range []struct {
		name     string
		keys     string
		typed    []string // each one read
		out      string
		detached bool
	}{
		{"none", "", []string{"text"}, "text", false},
		{"alone", "pq", []string{"pq"}, "", true},
		{"in two reads", "pq", []string{"ap", "q"}, "a", true},
		{"what follows is nobody's", "pq", []string{"apqb"}, "a", true},
		{"a beginning is passed on with what ends it", "pq", []string{"p", "x"}, "px", false},
		{"a beginning twice", "pq", []string{"ppq"}, "p", true},
		{"a beginning is held back", "pq", []string{"ap"}, "a", false},
		{"keys that begin like themselves", "aab", []string{"aaab"}, "a", true},
		{"keys that begin like themselves, in parts", "aab", []string{"a", "a", "a", "c"}, "aaac", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := detacher{keys: []byte(c.keys)}
			var out string
			var detached bool
			for _, typed := range c.typed {
				var o []byte
				o, detached = d.feed([]byte(typed))
				out += string(o)
			}
			if out != c.out || detached != c.detached {
				t.Errorf("%q, %v; want %q, %v", out, detached, c.out, c.detached)
			}
		})
	}
}

func TestDetachKeysAreDockersWords(t *testing.T) {
	for word, want := range map[string]string{
		"":              "\x10\x11",
		"ctrl-p,ctrl-q": "\x10\x11",
		"a":             "a",
		"ctrl-A,b":      "\x01b",
		"ctrl-@":        "\x00",
		"ctrl-[":        "\x1b",
		`ctrl-\`:        "\x1c",
		"ctrl-]":        "\x1d",
		"ctrl-^":        "\x1e",
		"ctrl-_":        "\x1f",
		"ctrl-1":        "error",
		"ctrl-":         "error",
		"ctrl-ab":       "error",
		"ab":            "error",
		"a,,b":          "error",
		",":             "error",
	} {
		got, err := ParseDetachKeys(word)
		if err != nil {
			got = []byte("error")
		}
		if string(got) != want {
			t.Errorf("%q: %q, %v; want %q", word, got, err, want)
		}
	}
}
