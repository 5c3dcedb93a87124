package top

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.Local)

func machine() Machine {
	return Machine{Now: noon, Booted: noon.Add(-2 * time.Hour), Memory: 1 << 30, Page: 4096, UserName: func(id int) string {
		return map[int]string{0: "root", 33: "www-data", 101: "systemd-network"}[id]
	}}
}

// process is a proc file system with one process, 42. The fields of stat are those
// from the state on.
func process(name, stat, uid, cmdline string) fstest.MapFS {
	return fstest.MapFS{
		"42/stat":    {Data: []byte("42 (" + name + ") " + stat + "\n")},
		"42/status":  {Data: []byte("Name:\tx\nUid:\t1\t" + uid + "\t3\t4\nGid:\t1\t7\t3\t4\n")},
		"42/cmdline": {Data: []byte(cmdline)},
	}
}

// state ppid pgid sid tty fg  flags minflt cminflt majflt cmajflt utime stime cutime cstime prio nice threads 0 start vsize rss ...
const aDaemon = "S 1 42 42 0 -1 0 0 0 0 0 6000 600 0 0 20 0 1 0 360000 8192000 1000 0 1 2 3 4 5 6 7 8 9 10 11 12 17 2 0"

func TestColumns(t *testing.T) {
	for name, test := range map[string]struct {
		proc    fstest.MapFS
		options string
		head    string
		line    string
	}{
		"full is the usual": {process("nginx", aDaemon, "0", "nginx\x00-g\x00daemon off;\x00"), "",
			"UID PID PPID C STIME TTY TIME CMD", "root|42|1|1|11:00|?|00:01:06|nginx -g daemon off;"},
		"and has a name": {process("nginx", aDaemon, "33", "nginx\x00"), "-ef",
			"UID PID PPID C STIME TTY TIME CMD", "www-data|42|1|1|11:00|?|00:01:06|nginx"},
		"BSD's": {process("nginx", aDaemon, "101", "nginx\x00"), "aux",
			"USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND", "systemd+|42|1.8|0.4|8000|4000|?|Ss|11:00|1:06|nginx"},
		"chosen ones": {process("a) b (c", aDaemon, "5", "x"), "-o pid,comm -o user,uid,gid,group",
			"PID COMMAND USER UID GID GROUP", "42|a) b (c|5|5|7|7"},
		"attached, with all processes, one named": {process("x", aDaemon, "0", "x"), "-eopid,stat,args=WHAT",
			"PID STAT WHAT", "42|Ss|x"},
		"GNU's long option": {process("x", aDaemon, "0", "x"), "--format=etime,etimes,psr,nlwp", "ELAPSED ELAPSED PSR NLWP", "01:00:00|3600|2|1"},
		"a terminal": {process("sh", "S 1 42 7 34816 42 0 0 0 0 0 0 0 0 0 20 5 2 0 720000 0 0 0 1 2 3 4 5 6 7 8 9 10 11 12 17 0", "0", "sh\x00"), "-o tty,stat,stime,etime",
			"TT STAT STIME ELAPSED", "pts/0|SNl+|12:00|00:00"},
		"what has ended and was not waited for": {process("cat", strings.Replace(aDaemon, "S", "Z", 1), "0", ""), "-o s,cmd,comm",
			"S CMD COMMAND", "Z|[cat] <defunct>|cat <defunct>"},
	} {
		columns, err := Columns(strings.Fields(test.options))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p, err := Read(test.proc, 42, machine())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var head, line []string
		for _, c := range columns {
			head, line = append(head, c.Heading), append(line, c.Text(p, machine()))
		}
		if got := strings.Join(head, " "); got != test.head {
			t.Errorf("%s: headings %s, want %s", name, got, test.head)
		}
		if got := strings.Join(line, "|"); got != test.line {
			t.Errorf("%s: got %s, want %s", name, got, test.line)
		}
	}
}

func TestStartedLongAgo(t *testing.T) {
	for _, test := range []struct {
		ago            time.Duration
		stime, elapsed string
	}{
		{time.Minute, "11:59", "01:00"},
		{13 * time.Hour, "Mar13", "13:00:00"},
		{50 * time.Hour, "Mar12", "2-02:00:00"},
		{100 * 24 * time.Hour, "2025", "100-00:00:00"},
	} {
		p := &Process{Started: noon.Add(-test.ago)}
		if got := started(p, machine()); got != test.stime {
			t.Errorf("%s ago: stime %s, want %s", test.ago, got, test.stime)
		}
		if got := elapsed(p.age(machine()), false); got != test.elapsed {
			t.Errorf("%s ago: elapsed %s, want %s", test.ago, got, test.elapsed)
		}
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	for options, word := range map[string]string{
		"-o pid,wchan":   "wchan",
		"-p 1":           "-p",
		"--forest":       "--forest",
		"--formatted":    "--formatted",
		"-o":             "-o",
		"-ef extra":      "extra",
		"-o pid,,% --no": "%",
	} {
		_, err := Columns(strings.Fields(options))
		var unknown *UnknownError
		if !errors.As(err, &unknown) {
			t.Errorf("%s: got %v, want an UnknownError", options, err)
		} else if unknown.Word != word && unknown.Word != "--no" {
			t.Errorf("%s: blames %q, want %q", options, unknown.Word, word)
		}
	}
}

func TestDamagedFilesAreErrors(t *testing.T) {
	for name, proc := range map[string]fstest.MapFS{
		"no parentheses": {"42/stat": {Data: []byte("42 x S 1")}},
		"turned around":  {"42/stat": {Data: []byte("42 )x( S 1")}},
		"short":          process("x", "S 1 2", "0", ""),
		"no number":      process("x", strings.Replace(aDaemon, "6000", "6k", 1), "0", ""),
		"no id":          process("x", aDaemon, "x", ""),
		"empty":          {"42/stat": {Data: nil}},
	} {
		if p, err := Read(proc, 42, machine()); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
	}
	if _, err := Read(fstest.MapFS{}, 42, machine()); !errors.Is(err, ErrGone) {
		t.Errorf("without a process: got %v, want ErrGone", err)
	}
}

// The witness is ps itself.
func TestAsPsPrintsIt(t *testing.T) {
	ps, err := exec.LookPath("ps")
	if err != nil {
		t.Skip("SKIPPED: no ps here")
	}
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		child.Process.Kill()
		child.Wait()
	}()
	m, err := Host(os.DirFS("/proc"))
	if err != nil {
		t.Fatal(err)
	}
	// What neither changes from one look to the next nor has a width of its own.
	names := []string{"pid", "ppid", "pgid", "sid", "user", "uid", "euser", "group", "gid", "c", "tty", "tname", "ni", "nlwp", "time", "stime", "bsdtime", "vsz", "args"}
	for _, name := range names {
		c, err := Columns([]string{"-o", name})
		if err != nil {
			t.Fatal(err)
		}
		// After execve: until then the child is a copy of this program.
		var p *Process
		for p == nil || p.Name != "sleep" {
			if p, err = Read(os.DirFS("/proc"), child.Process.Pid, m); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command(ps, "-o", name, "-p", strconv.Itoa(child.Process.Pid)).Output()
		if err != nil {
			t.Fatal(err)
		}
		head, line, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if got := c[0].Heading; got != strings.TrimSpace(head) {
			t.Errorf("%s: heading %q, ps has %q", name, got, strings.TrimSpace(head))
		}
		if got := c[0].Text(p, m); got != strings.TrimSpace(line) {
			t.Errorf("%s: got %q, ps has %q", name, got, strings.TrimSpace(line))
		}
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("42 (x) " + aDaemon))
	f.Add([]byte("42 (a) b (c) " + aDaemon))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &Process{}
		if p.parseStat(b, machine()) == nil && p.TTY == "" {
			t.Error("a process without a word on its terminal")
		}
	})
}
