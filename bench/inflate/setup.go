package main

import (
	"archive/tar"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

//go:embed peers/decode.c
var peers []byte

var libraries = map[string]string{"libdeflate": "deflate", "isal": "isal", "zlib": "z"}

// build makes a command line for each decoder that this machine can run.
func build(dir string, names []string) (map[string][]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	source := filepath.Join(dir, "peers.c")
	if err := os.WriteFile(source, peers, 0o600); err != nil {
		return nil, err
	}
	programs := map[string][]string{}
	for _, n := range names {
		out := filepath.Join(dir, n)
		switch {
		case libraries[n] != "":
			cmd := exec.Command("cc", "-O2", "-DPEER_"+n, "-o", out, source, "-l"+libraries[n])
			if msg, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "without %s: %v %.200s\n", n, err, msg)
				continue
			}
			programs[n] = []string{out, "SIZE"}
		case n == "peel-purego":
			cmd := exec.Command("go", "build", "-tags", "purego", "-o", out, "peel/bench/inflate")
			if msg, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("go build: %w\n%s", err, msg)
			}
			programs[n] = []string{out, "-worker", n}
		default:
			programs[n] = []string{self, "-worker", n}
		}
	}
	return programs, nil
}

// corpus is one kind of what image layers are made of.
type corpus struct {
	name string
	dirs []string // those that are there
	only string   // part of the names of files, "" for all
}

func corpora() []corpus {
	return []corpus{
		{"programs", []string{"/usr/bin", "/usr/sbin", "/etc", "/usr/share/doc"}, ""},
		{"libraries", []string{"/usr/lib/" + triplet[runtime.GOARCH]}, ".so"},
		{"sources", []string{goroot()}, ".go"},
		{"scripts", []string{"/usr/lib/python3", "/usr/lib/python3.11", "/usr/lib/python3.12", "/usr/lib/python3.13", "/usr/share/perl"}, ""},
	}
}

func goroot() string {
	out, _ := exec.Command("go", "env", "GOROOT").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

var triplet = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

const corpusSize = 48 << 20

// pack writes the corpora into dir and returns the files.
func pack(dir string) ([]string, error) {
	var files []string
	for _, c := range corpora() {
		name := filepath.Join(dir, c.name+".gz")
		f, err := os.Create(name)
		if err != nil {
			return nil, err
		}
		w := gzip.NewWriter(f)
		left := &limited{w, corpusSize}
		t := tar.NewWriter(left)
		for _, root := range c.dirs {
			err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() || !strings.Contains(filepath.Base(path), c.only) {
					return nil
				}
				return add(t, path)
			})
			if errors.Is(err, errFull) {
				break
			}
			if err != nil {
				return nil, err
			}
		}
		if err := errors.Join(w.Close(), f.Close()); err != nil {
			return nil, err
		}
		if left.n < corpusSize {
			files = append(files, name)
		}
	}
	return files, nil
}

func add(t *tar.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // not ours to read
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	h.Name = path
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(t, f, h.Size)
	return err
}

var errFull = errors.New("corpus is full")

// limited takes n bytes.
type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	n, err := l.w.Write(p[:min(len(p), l.n)])
	if l.n -= n; err == nil && n < len(p) {
		err = errFull
	}
	return n, err
}

// sizeOf counts a file's contents.
func sizeOf(file string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return 0, err
	}
	return io.Copy(io.Discard, z)
}

// versions are those of what is compared.
func versions() (v []string) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/klauspost/compress" {
				v = append(v, m.Path+" "+m.Version)
			}
		}
	}
	// Those of the machine: a package manager may not know them.
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "libdeflate-dev", "libisal-dev", "zlib1g-dev").Output()
	if err == nil {
		v = append(v, strings.Split(strings.TrimSpace(string(out)), "\n")...)
	}
	return v
}
