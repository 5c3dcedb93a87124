package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kinds are the ways in which the containers of the stress are run.
var kinds = []struct {
	name string
	o    CreateOptions
	tty  bool
	// start starts it and returns what is to be called when it has ended.
	start func(*Container) (end func() error, err error)
}{
	{"in the background", CreateOptions{}, false, detachedStart},
	{"to be removed", CreateOptions{AutoRemove: true}, false, detachedStart},
	{"in the foreground", CreateOptions{AutoRemove: true}, false, foregroundStart},
	{"attached", CreateOptions{OpenStdin: true}, true, attachedStart},
	{"to be restarted", CreateOptions{Restart: RestartPolicy{Name: Always}}, false, detachedStart},
	{"with an init", CreateOptions{Restart: RestartPolicy{Name: UnlessStopped}, OpenStdin: true}, false, detachedStart},
}

func detachedStart(c *Container) (func() error, error) {
	return func() error { return nil }, c.StartDetached()
}

func foregroundStart(c *Container) (func() error, error) {
	p, err := c.Start(Streams{})
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		_, err := p.Wait()
		done <- err
	}()
	return func() error { return <-done }, nil
}

func attachedStart(c *Container) (func() error, error) {
	a, err := c.StartAttached()
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	done := make(chan error, 1)
	go func() {
		_, err := a.Relay(Console{Out: null, Err: null})
		done <- err
	}()
	return func() error { defer null.Close(); return <-done }, err
}

func TestManyContainersAtOnceLoseAndLeaveNothing(t *testing.T) {
	needRoot(t)
	total := 200
	if testing.Short() || raceEnabled {
		total = 60
	}
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	files := countFiles(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	var mu sync.Mutex // guards what follows
	made := map[string]bool{}
	refused := 0
	for i := range total {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			id, err := oneOfMany(t, rt, root, i, total)
			mu.Lock()
			defer mu.Unlock()
			if inUse := (*NameInUseError)(nil); errors.As(err, &inUse) {
				refused++
			} else if err != nil {
				t.Error(err)
			}
			made[id] = true
		})
	}
	wg.Wait()
	if len(made) < total/2 {
		t.Errorf("%d containers made, %d refused", len(made), refused)
	}
	for id := range made {
		if left := cgroupsOf(id); id != "" && len(left) > 0 {
			t.Errorf("cgroups left: %v", left)
		}
	}
	if all, err := rt.List(); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
	for _, dir := range []string{rt.names(), rt.containers(), rt.run} {
		left, err := os.ReadDir(dir)
		for _, d := range left {
			if dir != rt.names() || !strings.HasPrefix(d.Name(), ".") { // its locks
				t.Errorf("%s/%s is left", dir, d.Name())
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	if left := ours(rt); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), rt.data) {
		t.Errorf("mounts left: %v\n%s", err, b)
	}
	if n := countFiles(t); n > files+8 { // those of the runtime, and of waits that nobody waits for
		t.Errorf("%d open files before, %d after", files, n)
	}
}

// oneOfMany is the life of one container. Every name is wanted twice.
func oneOfMany(t *testing.T, rt *Runtime, root string, i, total int) (id string, err error) {
	ctx := context.Background()
	kind := kinds[i%len(kinds)]
	name := fmt.Sprintf("c%d", i%(total/2))
	s := probeSpec(t, "wait")
	s.Process.Terminal = kind.tty
	o := kind.o
	o.Name = name
	if o.Init = kind.name == "with an init"; o.Init {
		withLoader(s)
	}
	fail := func(what string, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s, %s: %s: %w", name, kind.name, what, err)
	}
	c, err := rt.Create(ctx, Rootfs{Dir: root}, s, o)
	if err != nil {
		return "", fail("create", err)
	}
	end, err := kind.start(c)
	if err != nil {
		return c.ID, fail("start", err)
	}
	var failed []error
	for range 2 {
		code, out, err := execOutput(t, c, ExecOptions{}, "print", name)
		if err == nil && (code != 0 || out != name+"\n") {
			err = fmt.Errorf("%d, %q", code, out)
		}
		failed = append(failed, fail("exec", err))
	}
	if i%4 == 0 {
		failed = append(failed, fail("rename", c.Rename(name+"-again")))
	}
	if i%3 == 0 {
		failed = append(failed, fail("stop", c.Stop(ctx, time.Duration(i%2)*time.Minute)))
	}
	failed = append(failed, fail("remove", c.Remove(ctx, true)), fail("end", end()))
	return c.ID, errors.Join(failed...)
}

func countFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// ours are the processes of peel's that have something of a runtime's open.
func ours(rt *Runtime) (left []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		cmdline, _ := os.ReadFile(name)
		if !strings.HasPrefix(string(cmdline), "peel-") {
			continue
		}
		links, _ := filepath.Glob(filepath.Join(filepath.Dir(name), "fd/*"))
		for _, link := range links {
			if to, _ := os.Readlink(link); strings.HasPrefix(to, rt.run) || strings.HasPrefix(to, rt.data) {
				left = append(left, name+" "+string(cmdline))
			}
		}
	}
	return left
}

// callerEnv has this test's program start a container as its own process would
// that is then killed.
const callerEnv = "PEEL_TEST_CALLER"

type caller struct{ Data, Run, ID, How string }

func callerMain(word string) int {
	var how caller
	err := json.Unmarshal([]byte(word), &how)
	var c *Container
	if err == nil {
		c, err = (&Runtime{data: how.Data, run: how.Run}).load(how.ID)
	}
	if err == nil {
		err = how.start(c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (how caller) start(c *Container) error {
	start := map[string]func(*Container) (func() error, error){"foreground": foregroundStart, "attached": attachedStart, "detached": detachedStart}[how.How]
	end, err := start(c)
	if err != nil {
		return err
	}
	return end()
}

// TestWhoeverIsKilledWheneverLeavesNothingUnseen kills the caller, the monitor or
// the container at moments from before the start to after it. What then runs is
// seen to, what does not is not, and all of it goes.
func TestWhoeverIsKilledWheneverLeavesNothingUnseen(t *testing.T) {
	needRoot(t)
	rounds := 12
	if testing.Short() || raceEnabled {
		rounds = 3
	}
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	for _, c := range []struct {
		how     string
		victims []string
		o       CreateOptions
		tty     bool
		probe   []string
	}{
		{"foreground", []string{"caller", "container"}, CreateOptions{}, false, []string{"hang"}},
		{"foreground", []string{"caller"}, CreateOptions{AutoRemove: true}, false, []string{"exit", "3"}},
		{"attached", []string{"caller", "monitor", "container"}, CreateOptions{OpenStdin: true}, true, []string{"hang"}},
		{"attached", []string{"caller", "monitor", "container"}, CreateOptions{Restart: RestartPolicy{Name: Always}}, false, []string{"failing", "3"}},
		{"detached", []string{"caller", "monitor", "container"}, CreateOptions{Restart: RestartPolicy{Name: OnFailure}}, false, []string{"failing", "3"}},
		{"detached", []string{"monitor", "container"}, CreateOptions{AutoRemove: true}, false, []string{"hang"}},
	} {
		for _, victim := range c.victims {
			t.Run(fmt.Sprintf("%s, %v, %s", c.how, c.probe, victim), func(t *testing.T) {
				for n := range rounds {
					s := probeSpec(t, c.probe...)
					s.Process.Terminal = c.tty
					made, err := rt.Create(t.Context(), Rootfs{Dir: root}, s, c.o)
					if err != nil {
						t.Fatal(err)
					}
					killOnce(t, made, c.how, victim, time.Duration(rand.IntN(1+n*int(60*time.Millisecond)/rounds)))
					checkLeft(t, made)
					if t.Failed() {
						return
					}
				}
			})
		}
	}
	for end := time.Now().Add(20 * time.Second); ; {
		left := ours(rt)
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("processes left: %v", left)
		}
	}
}

// killOnce has another process start the container, and kills the victim some
// time later. Before there is one, it kills the caller.
func killOnce(t *testing.T, c *Container, how, victim string, later time.Duration) {
	t.Helper()
	word, err := json.Marshal(caller{c.rt.data, c.rt.run, c.ID, how})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), callerEnv+"="+string(word))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-time.After(later)
	pid := cmd.Process.Pid
	switch victim {
	case "monitor":
		if holder := lockHolder(c); holder != 0 {
			pid = holder
		}
	case "container":
		if s, err := c.Status(); err == nil && s.Pid != 0 {
			pid = s.Pid
		}
	}
	_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself
	// One that follows a container which runs on has nothing to wait for here.
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// lockHolder is the monitor that has the container's lock file open; 0 if none has.
func lockHolder(c *Container) int {
	for _, line := range ours(c.rt) {
		var pid int
		if n, _ := fmt.Sscanf(line, "/proc/%d/cmdline peel-monitor", &pid); n == 1 && opens(pid, c.rt.lockFile(c.ID)) {
			return pid
		}
	}
	return 0
}

func opens(pid int, name string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if to, _ := os.Readlink(link); to == name {
			return true
		}
	}
	return false
}

// checkLeft compares what is seen of a container with what is there, and removes
// it.
func checkLeft(t *testing.T, c *Container) {
	t.Helper()
	// Who was just killed may not be dead yet, and who reads of it not have ended.
	for end := time.Now().Add(20 * time.Second); ; {
		s, err := c.Status()
		if err != nil {
			t.Fatal(err)
		}
		there := processesOf(c)
		attended, err := c.attended()
		if err != nil {
			t.Fatal(err)
		}
		if attended || (s.Phase == Running) == (len(there) > 0) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, and in its cgroup are %v", s, there)
		}
	}
	if err := c.Remove(t.Context(), true); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if there := processesOf(c); len(there) > 0 {
		t.Errorf("processes left: %v", there)
	}
	if left := cgroupsOf(c.ID); len(left) > 0 {
		t.Errorf("cgroups left: %v", left)
	}
	// A monitor that began only now looks for the container, and then goes.
	for end := time.Now().Add(20 * time.Second); ; {
		_, data := os.Lstat(c.rt.dataDir(c.ID))
		_, run := os.Lstat(c.rt.runDir(c.ID))
		if errors.Is(data, os.ErrNotExist) && errors.Is(run, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("left: in data %v, in run %v", data, run)
		}
	}
}

// processesOf are the processes in a container's cgroup.
func processesOf(c *Container) (pids []string) {
	for _, dir := range cgroupsOf(c.ID) {
		if b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil {
			pids = append(pids, strings.Fields(string(b))...)
		}
	}
	return pids
}

func TestContainersThatCouldNotRemoveThemselvesAreSwept(t *testing.T) {
	needRoot(t)
	rt := newRuntime(t)
	root := newRootfs(t, nil)
	orphan := func(name string) *Container {
		c := startDetached(t, rt, root, CreateOptions{Name: name, AutoRemove: true}, "hang")
		waitForLine(t, c, "ready")
		if err := unix.Kill(monitorOf(t, c), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := c.waitUnattended(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	one := orphan("one")
	if gone, err := one.RemoveEnded(); gone || err != nil {
		t.Errorf("one that runs: %v, %v", gone, err)
	}
	if err := one.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if gone, err := one.RemoveEnded(); !gone || err != nil {
		t.Errorf("one that has ended: %v, %v", gone, err)
	}
	if _, err := rt.Get("one"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	// Whoever makes a container finds the name free.
	two := orphan("two")
	if err := two.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	again, err := rt.Create(t.Context(), Rootfs{Dir: root}, probeSpec(t, "wait"), CreateOptions{Name: "two", AutoRemove: true})
	if err != nil {
		t.Fatal(err)
	}
	// Neither one that never ran nor one that is to stay.
	stays := startDetached(t, rt, root, CreateOptions{}, "exit", "0")
	if _, err := stays.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Container{again, stays} {
		if gone, err := c.RemoveEnded(); gone || err != nil {
			t.Errorf("%v, %v", gone, err)
		}
	}
}
