package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// task is one thing that several tools do. The first tool is peel.
type task struct {
	name  string
	tools []tool
}

// tool does the task once. Prepare, which is not measured, may be nil. A script
// runs under sh with the variables REF (the image), OUT (an empty directory of
// its own) and ARCH; its processes are what is measured.
type tool struct {
	name    string
	needs   string // a program that may be missing
	prepare string
	script  string
}

func tasks() []task {
	const (
		peelUnpack = `exec peel --root "$OUT/store" unpack -q "$REF" "$OUT/bundle"`
		skopeoCopy = `skopeo copy -q --src-tls-verify=false "docker://$REF" "oci:$OUT/layout:latest"`
	)
	return []task{
		{"pull and unpack into a directory", []tool{
			{name: "peel unpack", script: peelUnpack},
			{name: "crane export, tar -x", script: `mkdir "$OUT/rootfs"; crane export --platform "linux/$ARCH" "$REF" - | tar -x -p --numeric-owner --xattrs --xattrs-include='*' -C "$OUT/rootfs"`},
			{name: "skopeo copy, umoci unpack", needs: "skopeo", script: skopeoCopy + `; umoci unpack --image "$OUT/layout:latest" "$OUT/bundle" 2>/dev/null`},
			{name: "podman pull, mount", needs: "podman", script: `p() { podman --root "$OUT/s" --runroot "$RUN" --storage-driver overlay "$@" >/dev/null; }; p pull -q --tls-verify=false "$REF"; p image mount "$REF"`},
		}},
		{"pull", []tool{
			{name: "peel pull", script: `exec peel --root "$OUT/store" pull -q "$REF" >/dev/null`},
			{name: "crane pull", script: `exec crane pull --platform "linux/$ARCH" --format oci "$REF" "$OUT/layout" 2>/dev/null`},
			{name: "skopeo copy", needs: "skopeo", script: skopeoCopy},
		}},
		{"unpack what is there", []tool{
			{name: "peel unpack", prepare: `peel --root "$OUT/store" pull -q "$REF" >/dev/null`, script: `exec peel --root "$OUT/store" unpack -q --pull never "$REF" "$OUT/bundle"`},
			{name: "umoci unpack", needs: "skopeo", prepare: skopeoCopy, script: `exec umoci unpack --image "$OUT/layout:latest" "$OUT/bundle" 2>/dev/null`},
		}},
	}
}

// buildTools makes peel as it is released, and the peers that are Go modules.
func buildTools(ctx context.Context, bin string) error {
	for _, args := range [][]string{
		{"build", "-trimpath", "-ldflags=-s -w", "-o", bin + "/", "./cmd/peel"},
		{"-C", "e2e/tools", "build", "-trimpath", "-ldflags=-s -w", "-o", bin + "/", "tool"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// versions tells which tools were measured.
func versions(ctx context.Context, bin string) []string {
	out := []string{runtime.Version()}
	modules, err := exec.CommandContext(ctx, "go", "version", "-m", filepath.Join(bin, "crane"), filepath.Join(bin, "umoci")).Output()
	if err == nil {
		for line := range strings.Lines(string(modules)) {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "mod" {
				out = append(out, filepath.Base(f[1])+" "+f[2])
			}
		}
	}
	for _, name := range []string{filepath.Join(bin, "peel"), "skopeo", "podman", "tar"} {
		if text, err := exec.CommandContext(ctx, name, "--version").Output(); err == nil {
			line, _, _ := strings.Cut(string(text), "\n")
			out = append(out, strings.Replace(line, " version", "", 1))
		}
	}
	return out
}
