package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pair is a container of the same image by peel and by podman, to be treated alike.
type pair struct {
	peel, podman func(args ...string) *exec.Cmd
}

func newPair(t *testing.T) pair {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "root")
	}
	need(t, "podman")
	ref, dir := published(t, "nginx"), t.TempDir()
	p := pair{podman: podmanCommand(t, dir)}
	c := peel(t, dir)
	p.peel = func(args ...string) *exec.Cmd { return c.command(t.Context(), args...) }
	c.ok(t, "run", "-q", "--name", "c", ref, "true")
	t.Cleanup(func() { c.run(t, "rm", "-f", "c") })
	for _, args := range [][]string{{"pull", "-q", "--tls-verify=false", ref}, {"create", "--name", "c", ref, "true"}} {
		if out, err := p.podman(args...).CombinedOutput(); err != nil {
			t.Fatalf("podman %v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() { p.podman("rm", "-f", "c").Run() })
	return p
}

// both runs the same command by both, and returns what each has printed, or that it
// has failed.
func (p pair) both(stdin []byte, args ...string) (ours, theirs string) {
	run := func(cmd *exec.Cmd) string {
		cmd.Stdin = bytes.NewReader(stdin)
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "fails"
		}
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	return run(p.peel(args...)), run(p.podman(args...))
}

// listing is the entries of an archive and what they hold, sorted.
func listing(archive string) string {
	var all []string
	for r := tar.NewReader(strings.NewReader(archive)); ; {
		h, err := r.Next()
		if err != nil {
			slices.Sort(all)
			return strings.Join(all, "\n")
		}
		b, _ := io.ReadAll(r)
		all = append(all, fmt.Sprintf("%s %o %s %q", strings.TrimSuffix(h.Name, "/"), h.Mode, h.Linkname, b))
	}
}

// archive makes a tar of words: "dir/", "file", "link->target".
func archiveOf(t *testing.T, words ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, word := range words {
		h := &tar.Header{Name: word, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(word))}
		name, target, isLink := strings.Cut(word, "->")
		switch {
		case isLink:
			h.Name, h.Linkname, h.Typeflag, h.Size = name, target, tar.TypeSymlink, 0
		case strings.HasSuffix(word, "/"):
			h.Mode, h.Typeflag, h.Size = 0o755, tar.TypeDir, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, word)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is where after a copy into a container is the same for both. Links at the
// destination are left out: podman 4.3 waits for ever there.
func TestCopiesGoWhereThoseOfPodmanGo(t *testing.T) {
	p := newPair(t)
	host := t.TempDir()
	if err := errors.Join(os.MkdirAll(host+"/d/sub", 0o755), os.WriteFile(host+"/f", []byte("file"), 0o644), os.WriteFile(host+"/d/a", []byte("a"), 0o600),
		os.WriteFile(host+"/d/sub/b", []byte("b"), 0o755), os.Symlink("a", host+"/d/l")); err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct {
		from, to string
		there    []string // below the place of this test
	}{
		{"f", "x", nil}, {"f", "x", []string{"x"}}, {"f", "x", []string{"x/"}}, {"f", "x/", []string{"x/"}}, {"f", "x/", nil}, {"f", "x/y", nil},
		{"f", "x", []string{"x/", "x/f"}},
		{"d", "x", nil}, {"d", "x", []string{"x/"}}, {"d", "x/", []string{"x/"}}, {"d/", "x", []string{"x/"}}, {"d", "x", []string{"x"}},
		{"d/.", "x", []string{"x/"}}, {"d/.", "x", nil}, {"d", "x", []string{"x/", "x/d/", "x/d/a", "x/d/kept"}}, {"d", "x/y", nil},
		{"nothing", "x", nil}, {"f/", "x", nil},
	} {
		place := fmt.Sprintf("t%d", i)
		there := []string{place + "/"}
		for _, word := range test.there {
			there = append(there, place+"/"+word)
		}
		for _, out := range []string{first(p.both(archiveOf(t, there...), "cp", "-", "c:/")), second(p.both(nil, "cp", "c:/"+place, "-"))} {
			if out == "fails" {
				t.Fatalf("%v cannot be prepared", test)
			}
		}
		ours, theirs := p.both(nil, "cp", filepath.Join(host)+"/"+test.from, "c:/"+place+"/"+test.to)
		if (ours == "fails") != (theirs == "fails") {
			t.Errorf("cp %s %s with %v: peel %q, podman %q", test.from, test.to, test.there, ours, theirs)
			continue
		}
		ours, theirs = p.both(nil, "cp", "c:/"+place, "-")
		if ours, theirs = listing(ours), listing(theirs); ours != theirs {
			t.Errorf("cp %s %s with %v: peel\n%s\npodman\n%s", test.from, test.to, test.there, ours, theirs)
		}
	}

	// Both have been through the same changes by now.
	ours, theirs := p.both(nil, "diff", "c")
	if sortedLines(ours) != sortedLines(theirs) {
		t.Errorf("diff: peel\n%s\npodman\n%s", ours, theirs)
	}
}

func first(a, _ string) string  { return a }
func second(_, b string) string { return b }

func sortedLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Templates that docker's users know give what podman gives.
func TestTemplatesGiveWhatThoseOfPodmanGive(t *testing.T) {
	p := newPair(t)
	ref := published(t, "nginx")
	for _, args := range [][]string{
		{"ps", "-a", "--format", "{{.Names}} {{.Image}}"},
		{"ps", "-a", "--filter", "name=c", "--filter", "ancestor=" + ref, "--format", "{{.Names}}"},
		{"ps", "-a", "--filter", "name=none", "--format", "{{.Names}}"},
		{"images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}"},
		{"images", "--filter", "reference=" + ref, "--format", "{{.ID}}"},
		{"images", "--filter", "dangling=true", "--format", "{{.ID}}"},
		{"inspect", "--type", "container", "-f", "{{.State.ExitCode}} {{.State.Running}} {{.Path}} {{len .Args}} {{.Config.Tty}}", "c"},
		{"inspect", "--type", "image", "-f", "{{.Architecture}} {{.Os}} {{json .Config.ExposedPorts}} {{json .RootFS.Layers}} {{len .RepoTags}}", ref},
		{"inspect", "--type", "container", "-f", "{{.NoSuchField}}", "c"},
	} {
		if ours, theirs := p.both(nil, args...); ours != theirs {
			t.Errorf("%s: peel\n%spodman\n%s", strings.Join(args, " "), ours, theirs)
		}
	}
}
