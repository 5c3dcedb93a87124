// Command inflate compares decoders of gzip: peel's with klauspost/compress,
// the standard library, libdeflate, ISA-L and zlib.
//
// Each decoder is a process of its own that holds one corpus in memory and
// decodes it whenever it is told. All take turns, so that a busy machine slows
// them alike; what is printed is the median over the rounds, in megabytes of
// output per second of CPU, with the ratio to klauspost and to libdeflate. The
// peers in C need a compiler and their headers, and are left out without.
//
//	go run ./bench/inflate [-rounds 9] [FILE.gz ...]
//
// Without files it packs the first 48 MiB of a few of this machine's directories
// with the standard library's gzip at its default level, as image pushers do.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// decoders, in the order of the table. The names are those of columns.
var decoders = []string{"stdlib", "klauspost", "zlib", "isal", "libdeflate", "peel-purego", "peel", "peel-nocrc"}

func main() {
	rounds := flag.Int("rounds", 9, "how often each decoder decodes each corpus")
	only := flag.String("only", strings.Join(decoders, ","), "the decoders to compare")
	worker := flag.String("worker", "", "decode on demand, as this decoder (for the program itself)")
	flag.Parse()
	var err error
	if *worker != "" {
		err = work(*worker, flag.Arg(0))
	} else {
		err = compare(strings.Split(*only, ","), *rounds, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "inflate:", err)
		os.Exit(1)
	}
}

// compare prints the table.
func compare(names []string, rounds int, files []string) error {
	dir, err := os.MkdirTemp("", "bench-inflate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := build(dir, names)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return programs[n] == nil })
	if len(files) == 0 {
		if files, err = pack(dir); err != nil {
			return err
		}
	}
	describe()
	fmt.Printf("\n%-14s %8s", "corpus", "MB out")
	for _, n := range names {
		fmt.Printf(" %12s", n)
	}
	fmt.Println(" MB/s; ratio to klauspost / to libdeflate")

	ratios := map[string][][2]float64{}
	for _, file := range files {
		size, speeds, err := measure(programs, names, file, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		fmt.Printf("%-14s %8.1f", strings.TrimSuffix(filepath.Base(file), ".gz"), float64(size)/1e6)
		for _, n := range names {
			fmt.Printf(" %12.0f", speeds[n])
		}
		fmt.Printf("\n%-14s %8s", "", "")
		for _, n := range names {
			r := [2]float64{speeds[n] / speeds["klauspost"], speeds[n] / speeds["libdeflate"]}
			ratios[n] = append(ratios[n], r)
			fmt.Printf(" %12s", fmt.Sprintf("%.2f / %.2f", r[0], r[1]))
		}
		fmt.Println()
	}
	for _, row := range []struct {
		name string
		of   func([]float64) float64
	}{{"median", median}, {"least", slices.Min[[]float64]}} {
		fmt.Printf("%-14s %8s", row.name, "")
		for _, n := range names {
			var kp, ld []float64
			for _, r := range ratios[n] {
				kp, ld = append(kp, r[0]), append(ld, r[1])
			}
			fmt.Printf(" %12s", fmt.Sprintf("%.2f / %.2f", row.of(kp), row.of(ld)))
		}
		fmt.Println()
	}
	return nil
}

// measure lets each decoder decode a file in turn.
func measure(programs map[string][]string, names []string, file string, rounds int) (int64, map[string]float64, error) {
	size, err := sizeOf(file)
	if err != nil {
		return 0, nil, err
	}
	running := map[string]*process{}
	defer func() {
		for _, p := range running {
			p.end()
		}
	}()
	for _, n := range names {
		p, err := start(append(programs[n], file), size)
		if err != nil {
			return 0, nil, fmt.Errorf("%s: %w", n, err)
		}
		running[n] = p
	}
	times := map[string][]float64{}
	for round := range rounds + 1 {
		for _, n := range names {
			ns, err := running[n].decode()
			if err != nil {
				return 0, nil, fmt.Errorf("%s: %w", n, err)
			}
			if round > 0 { // the first warms caches
				times[n] = append(times[n], ns)
			}
		}
	}
	speeds := map[string]float64{}
	for _, n := range names {
		speeds[n] = float64(size) / median(times[n]) * 1e3
	}
	return size, speeds, nil
}

// process is a running decoder.
type process struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

func start(argv []string, size int64) (*process, error) {
	for i, arg := range argv {
		argv[i] = strings.ReplaceAll(arg, "SIZE", strconv.FormatInt(size, 10))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return &process{cmd: cmd, in: w, out: bufio.NewReader(out)}, nil
}

// decode returns the nanoseconds of CPU that it took.
func (p *process) decode() (float64, error) {
	if _, err := p.in.Write([]byte{'\n'}); err != nil {
		return 0, err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
}

func (p *process) end() {
	p.in.Close()
	p.cmd.Wait()
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

func describe() {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	fmt.Printf("%s, %d CPUs, %s/%s, %s\n", model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	for _, v := range versions() {
		fmt.Println(v)
	}
}
