// Command peers measures peel beside crane, skopeo, umoci and podman.
//
//	go run ./bench/peers [-rounds 7] [-images nginx,big] [-tasks export] [-out bench/peers/results]
//
// The images are those of the end-to-end tests, served by a registry on
// loopback, whose data is in memory. All tools take turns, in another order each
// round, and start cold: an empty store, a new directory, a new file system. What counts is the
// ratio of a tool's run to peel's of the same round; of these the median is
// taken, for a busy machine slows both alike.
//
// The file system is an ext4 with a journal, made in memory for each run: on a
// used one, and far more on one without a journal, whoever creates files after a
// deletion pays for it, which would be a measurement of the order of runs. The
// largest image takes 12 GB of memory. Needs root, and what e2e/setup.sh installs;
// where there are a dockerd and a containerd (Debian's docker.io and containerd, and
// isal for igzip), they are compared, too: each run has a daemon of its own, which is
// started before it and ended after it, and whose processor time is not counted.
//
// Below peel's rows stands the floor: the time its stages would take if all their
// work were spread evenly over the cores.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"peel/e2e/images"
	"peel/e2e/registry"
)

func main() {
	rounds := flag.Int("rounds", 7, "how often each tool does each task")
	only := flag.String("tasks", "", "only the tasks whose name begins with this")
	names := flag.String("images", "nginx", "the images to do it with, of: "+strings.Join(images.Names(), ", "))
	out := flag.String("out", "", "write the figures to `FILE`.json and a plot to FILE.svg")
	place := flag.String("place", "", "work in `DIR` instead of on an ext4 in memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *rounds, strings.Split(*names, ","), *only, *out, *place)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, names []string, only, out, place string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: the tools make files of other users")
	}
	work, remove, err := newWorkplace(place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	bin := filepath.Join(work.base, "bin")
	if err := buildTools(ctx, bin); err != nil {
		return err
	}
	data := filepath.Join(work.base, "registry")
	if err := os.Mkdir(data, 0o755); err != nil {
		return err
	}
	reg, err := registry.Start(ctx, data, registry.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.Stop()) }()
	cache := images.FromEnv()
	cache.Log = os.Stderr

	report := report{Machine: machine(), CPUs: runtime.NumCPU(), FileSystem: work.String(), Versions: versions(ctx, bin), Rounds: rounds}
	for _, name := range names {
		l, err := cache.Image(ctx, name)
		if err != nil {
			return err
		}
		repo, tag := images.Place(name)
		if _, err := reg.Push(ctx, l, repo, tag); err != nil {
			return err
		}
		b := bench{work: work, bin: bin, ref: reg.Addr + "/" + repo + ":" + tag}
		for _, t := range tasks() {
			if !strings.HasPrefix(t.name, only) {
				continue
			}
			fmt.Fprintf(os.Stderr, "%s: %s\n", name, t.name)
			results, err := b.measure(ctx, t, rounds)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", name, t.name, err)
			}
			report.Tasks = append(report.Tasks, taskResult{Image: name, Task: t.name, Tools: results})
		}
	}
	report.print(os.Stdout)
	if out != "" {
		return report.write(out)
	}
	return nil
}
