package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The session that README.md shows is typed as it stands there, by root and by
// a user, with the image pulled under its own name. What a line prints there is
// an example; here it is looked at.
func TestSessionOfTheREADME(t *testing.T) {
	need(t, "ps", "tar", "unshare", "setpriv")
	ref := published(t, "nginx")
	registry, _, _ := strings.Cut(ref, "/")
	for _, as := range []struct {
		name string
		user func(t *testing.T, dir string) []string
	}{
		{"root", func(*testing.T, string) []string { return nil }},
		{"user", subordinateUser},
	} {
		t.Run(as.name, func(t *testing.T) {
			dir := t.TempDir()
			if as.name == "user" {
				// Other users must come to it.
				var err error
				if dir, err = os.MkdirTemp("", "peel-session-"); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
			}
			h := newHub(t, registry, dir)
			s := session{dir: dir, env: append(os.Environ(), h.env...), wrap: as.user(t, dir)}
			s.start(t)
			s.follow(t, readmeSession(t))
			if h.tokens == 0 {
				t.Error("no token was asked for")
			}
		})
	}
}

// readmeSession returns what is typed in the section "A session".
func readmeSession(t *testing.T) (lines []string) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n## A session\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	for line := range strings.Lines(section) {
		if typed, ok := strings.CutPrefix(line, "    $ "); ok {
			typed, _, _ = strings.Cut(typed, "  #")
			lines = append(lines, strings.TrimSpace(typed))
		}
	}
	return lines
}

// session is a shell in which the README's lines are typed.
type session struct {
	dir  string
	env  []string
	wrap []string // a command that runs its arguments as the session's user
	pid  string   // of nginx's master, once ps has shown it
}

func (s *session) start(t *testing.T) {
	t.Helper()
	bin, err := shared.peel()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "bin")
	b, err := os.ReadFile(bin)
	if err == nil {
		err = os.Mkdir(path, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(path, "peel"), b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "PATH="+path+":"+os.Getenv("PATH"), "PEEL_ROOT="+filepath.Join(s.dir, "store"), "HOME="+s.dir)
	t.Cleanup(func() { s.command("peel rm --force experiment; peel rmi nginx:latest; chmod -R u+rwX .").Run() })
}

func (s *session) command(line string) *exec.Cmd {
	args := append(append([]string{}, s.wrap...), "sh", "-c", line)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// The process id that the README's example happens to have.
const readmePID = "29401"

// follow types the lines one after the other and checks each one's effect.
func (s *session) follow(t *testing.T, lines []string) {
	t.Helper()
	// What is typed begins like this, in this order, and prints that.
	steps := []struct{ typed, prints string }{
		{"peel run -d --name experiment nginx:latest", `(?s)latest: Pulling from library/nginx\n[0-9a-f]{12}: .*\nDigest: sha256:[0-9a-f]{64}\nStatus: Downloaded newer image for nginx:latest\n[0-9a-f]{64}\n$`},
		{"peel ps", `(?m)^CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES\n[0-9a-f]{12} +nginx:latest +"/docker-entrypoint\.…" +.* ago +Up .* experiment$`},
		{"ps -ef", `(?s)nginx: master process nginx -g daemon off;.*nginx: worker process`},
		{"peel exec experiment touch /HELLO_OPS", `^$`},
		{"ls /proc/", `^/proc/[0-9]+/root/HELLO_OPS\n$`},
		{"peel export experiment -o experiment.tar", `^$`},
		{"tar -tf experiment.tar", `^HELLO_OPS\n$`},
		{"peel explain", `(?s)nginx: master process.*What its files are\n`},
		{"peel stop experiment", `^experiment\nexperiment\n$`},
	}
	if len(lines) != len(steps) {
		t.Fatalf("%d lines are typed, %d are known: %q", len(lines), len(steps), lines)
	}
	for i, step := range steps {
		typed := lines[i]
		if !strings.HasPrefix(typed, step.typed) {
			t.Fatalf("line %d is %q, want %q", i+1, typed, step.typed)
		}
		if strings.Contains(typed, readmePID) {
			if s.pid == "" {
				t.Fatalf("%s: before ps has shown the process", typed)
			}
			typed = strings.ReplaceAll(typed, readmePID, s.pid)
		}
		if step.typed == "ps -ef" {
			s.waitForWorkers(t)
		}
		out, err := s.command(typed).CombinedOutput()
		if err != nil || !regexp.MustCompile(step.prints).Match(out) {
			t.Fatalf("$ %s\n%s%v; want %s", typed, out, err, step.prints)
		}
		if step.typed == "ps -ef" {
			s.findMaster(t)
		}
	}
	if out, err := s.command("peel ps -aq").CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("afterwards there is %s%v", out, err)
	}
}

// waitForWorkers returns when nginx has started its workers: it answers then.
func (s *session) waitForWorkers(t *testing.T) {
	t.Helper()
	out, err := s.command(`
		until peel exec experiment curl -s http://127.0.0.1/; do
			[ -n "$(peel ps -q)" ] || { peel logs experiment; exit 1; }
			sleep 0.1
		done`).CombinedOutput()
	if err != nil {
		t.Fatalf("no answer: %v\n%s", err, out)
	}
}

// findMaster takes the process id from peel and demands that it is the one that
// ps shows as nginx's master, of the very user who runs the session.
func (s *session) findMaster(t *testing.T) {
	t.Helper()
	out, err := s.command(`peel inspect experiment | sed -n 's/.*"Pid": \([0-9]*\).*/\1/p' | head -n 1`).Output()
	if err != nil {
		t.Fatal(err)
	}
	s.pid = strings.TrimSpace(string(out))
	if _, err := strconv.Atoi(s.pid); err != nil {
		t.Fatalf("process id %q", s.pid)
	}
	args, err := os.ReadFile("/proc/" + s.pid + "/cmdline")
	if err != nil || !strings.HasPrefix(string(args), "nginx: master process") {
		t.Errorf("process %s is %q (%v)", s.pid, args, err)
	}
}

// subordinateUser makes a user with a range of subordinate ids, who is in the
// files of /etc only for the commands that he runs, and gives him dir.
func subordinateUser(t *testing.T, dir string) []string {
	t.Helper()
	need(t, "newuidmap", "newgidmap")
	const id = "54322"
	etc := t.TempDir()
	script := `
		cp -a /etc/. "$1"
		echo "session:x:$2:$2::$3:/bin/sh" >>"$1/passwd"
		echo "session:x:$2:" >>"$1/group"
		echo "session:600000:65536" | tee "$1/subuid" >"$1/subgid"
		chmod 644 "$1/subuid" "$1/subgid"
		chown "$2:$2" "$3"`
	if out, err := exec.Command("sh", "-euc", script, "sh", etc, id, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	enter := `mount --bind "$1" /etc; shift; exec setpriv --reuid ` + id + ` --regid ` + id + ` --clear-groups "$@"`
	return []string{"unshare", "--mount", "--propagation", "private", "sh", "-euc", enter, "sh", etc}
}
