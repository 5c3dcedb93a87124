// Command start measures how long a container takes that does nothing: the tools
// take turns, each a whole process from its start to its end.
//
//	go run ./bench/start -image 127.0.0.1:5000/library/nginx:latest
//
// It needs root, peel, podman and runc. The image is pulled before anything is
// measured; runc and peel also run the bundle that peel makes of it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	peel := flag.String("peel", "peel", "the peel to measure")
	image := flag.String("image", "", "REFERENCE of an image with /bin/true, in a registry on loopback")
	rounds := flag.Int("rounds", 20, "how often each tool runs; one round more goes before, and does not count")
	flag.Parse()
	if err := measure(*peel, *image, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
}

// tool is a command, and what it is compared with.
type tool struct {
	name    string
	command []string
	against int // index of a tool, or its own
}

func measure(peel, image string, rounds int) (err error) {
	dir, err := os.MkdirTemp("", "start-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bundle, root := filepath.Join(dir, "bundle"), filepath.Join(dir, "peel")
	podman := []string{"podman", "--root", dir + "/podman", "--runroot", dir + "/run", "--runtime", "runc"}
	if err := prepare(peel, image, root, bundle, podman); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run(append(slices.Clone(podman), "rmi", "--all", "--force"))) }()
	tools := []tool{
		{"podman run IMAGE", append(podman, "run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", image, "/bin/true"), 0},
		{"peel run IMAGE", []string{peel, "--root", root, "run", "--rm", image, "/bin/true"}, 0},
		{"runc run", []string{"runc", "--root", dir + "/runc", "run", "-b", bundle, "start"}, 2},
		{"peel run BUNDLE", []string{peel, "--root", root, "run", "--rm", bundle}, 2},
	}
	took := make([][]time.Duration, len(tools))
	for round := range rounds + 1 {
		for n := range tools {
			i := (n + round) % len(tools)
			start := time.Now()
			if err := run(tools[i].command); err != nil {
				return err
			}
			if round > 0 {
				took[i] = append(took[i], time.Since(start))
			}
		}
	}
	fmt.Println("| | median | least | of the other's median |\n|-|-|-|-|")
	for i, t := range tools {
		slices.Sort(took[i])
		fmt.Printf("| %s | %.1f ms | %.1f ms | %.2f |\n", t.name, ms(median(took[i])), ms(took[i][0]), ms(median(took[i]))/ms(median(took[t.against])))
	}
	return nil
}

// prepare pulls the image for all, and makes a bundle whose command is /bin/true.
func prepare(peel, image, root, bundle string, podman []string) error {
	for _, command := range [][]string{
		{peel, "--root", root, "run", "--rm", "--quiet", image, "/bin/true"},
		{peel, "--root", root, "unpack", "--quiet", image, bundle},
		append(slices.Clone(podman), "pull", "--quiet", "--tls-verify=false", image),
	} {
		if err := run(command); err != nil {
			return err
		}
	}
	config := filepath.Join(bundle, "config.json")
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	var spec specs.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return err
	}
	spec.Process.Args = []string{"/bin/true"}
	if b, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(config, b, 0o644)
}

func run(command []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", command[0], err, &stderr)
	}
	return nil
}

func median(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
