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

// tool does the task once. Prepare and cleanup, which are not measured, may be empty.
// A script runs under sh with the variables REF (the image), OUT (an empty directory
// of its own), RUN (another, of a short name) and ARCH; its processes are what is
// measured.
type tool struct {
	name    string
	needs   string // a program that may be missing
	check   string // a script that fails where the tool cannot do it
	prepare string
	script  string
	cleanup string
}

func tasks() []task {
	const (
		peelUnpack = `exec peel --root "$OUT/store" unpack -q "$REF" "$OUT/bundle"`
		skopeoCopy = `skopeo copy -q --src-tls-verify=false "docker://$REF" "oci:$OUT/layout:latest"`
	)
	const (
		podman = `p() { podman --root "$OUT/s" --runroot "$RUN" --storage-driver overlay "$@"; }; `
		// A daemon of its own, without network, which goes when the run is over. Its
		// processor time is not measured.
		docker       = `d() { docker -H "unix://$RUN/sock" "$@"; }; `
		dockerDaemon = `setsid dockerd --iptables=false --ip6tables=false --bridge=none --data-root "$OUT/d" --exec-root "$RUN/x" -p "$RUN/pid" -H "unix://$RUN/sock" >"$RUN/log" 2>&1 & ` +
			`i=0; until d version >/dev/null 2>&1; do i=$((i+1)); test $i -lt 300 || { cat "$RUN/log" >&2; exit 1; }; sleep 0.1; done; `
		daemonEnd = `pid=$(cat "$RUN/pid"); kill "$pid"; while test -e "/proc/$pid"; do sleep 0.1; done`
	)
	const (
		containerd       = `c() { ctr -a "$RUN/sock" "$@"; }; `
		containerdDaemon = `printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n' >"$RUN/conf"; ` +
			`setsid containerd --config "$RUN/conf" --root "$OUT/c" --state "$RUN/c" --address "$RUN/sock" >"$RUN/log" 2>&1 & echo $! >"$RUN/pid"; ` +
			`i=0; until c version >/dev/null 2>&1; do i=$((i+1)); test $i -lt 300 || { cat "$RUN/log" >&2; exit 1; }; sleep 0.1; done; `
		// containerd has "unpigz" decompress where it finds that; before 2.0 it does not
		// look for igzip, which takes the same flags and is the fastest there is.
		igzip = `mkdir "$RUN/bin"; ln -s "$(command -v igzip)" "$RUN/bin/unpigz"; PATH="$RUN/bin:$PATH"; `
	)
	return []task{
		{"make ready to start", []tool{
			// With the start and the end of a container, which the others are spared.
			{name: "peel run true", script: `exec peel --root "$OUT/store" run --rm -q "$REF" true`},
			{name: "peel run true, files", script: `exec peel --root "$OUT/store" run --rm -q --store-form files "$REF" true`},
			{name: "podman pull", needs: "podman", script: podman + `p pull -q --tls-verify=false "$REF" >/dev/null`},
			{name: "docker pull", needs: "dockerd", prepare: docker + dockerDaemon, script: docker + `d pull -q "$REF" >/dev/null`, cleanup: daemonEnd},
			{name: "containerd pull", needs: "containerd", prepare: containerd + containerdDaemon,
				script: containerd + `c images pull --plain-http "$REF" >/dev/null`, cleanup: daemonEnd},
			{name: "containerd pull, igzip", needs: "containerd", check: `command -v igzip`, prepare: containerd + igzip + containerdDaemon,
				script: containerd + `c images pull --plain-http "$REF" >/dev/null`, cleanup: daemonEnd},
			{name: "containerd pull, erofs", needs: "containerd", check: containerd + containerdDaemon + `c plugins ls | grep -q "erofs.*ok$" && has=0 || has=1; ` + daemonEnd + `; exit $has`,
				prepare: containerd + igzip + containerdDaemon,
				script:  containerd + `c images pull --plain-http --snapshotter erofs "$REF" >/dev/null`, cleanup: daemonEnd},
		}},
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
		{"export a stopped container", []tool{
			{name: "peel export", prepare: `peel --root "$OUT/store" run --name web "$REF" true 2>/dev/null`, script: `peel --root "$OUT/store" export web | cat >/dev/null`},
			{name: "tar -c of its tree", prepare: `peel --root "$OUT/store" unpack -q --rootfs "$REF" "$OUT/rootfs"`, script: `tar -C "$OUT/rootfs" -c . | cat >/dev/null`},
			{name: "podman export", needs: "podman", prepare: podman + `p pull -q --tls-verify=false "$REF" >/dev/null; p create -q --name web "$REF" true >/dev/null`, script: podman + `p export web | cat >/dev/null`},
			{name: "docker export", needs: "dockerd", prepare: docker + dockerDaemon + `d pull -q "$REF" >/dev/null; d create --network none --name web "$REF" true >/dev/null`,
				script: docker + `d export web | cat >/dev/null`, cleanup: daemonEnd},
		}},
		{"export a bundle", []tool{
			{name: "peel export", prepare: peelUnpack, script: `peel export "$OUT/bundle" | cat >/dev/null`},
			{name: "tar -c", prepare: peelUnpack, script: `tar -C "$OUT/bundle/rootfs" -c . | cat >/dev/null`},
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
	for _, name := range []string{filepath.Join(bin, "peel"), "skopeo", "podman", "dockerd", "containerd", "igzip", "tar"} {
		if text, err := exec.CommandContext(ctx, name, "--version").Output(); err == nil {
			line, _, _ := strings.Cut(string(text), "\n")
			out = append(out, strings.Replace(line, " version", "", 1))
		}
	}
	return out
}
