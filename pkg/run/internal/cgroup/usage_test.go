package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// group makes a directory of files, each "NAME: CONTENT" with "|" for new lines.
func group(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name, content, _ := strings.Cut(f, ": ")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(content, "|", "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestUsage(t *testing.T) {
	none := "cpu - memory - of - pids - read - written -"
	for name, test := range map[string]struct {
		paths map[string]string
		want  string
	}{
		"no group":    {nil, none},
		"gone":        {map[string]string{"": "/nonexistent"}, none},
		"empty group": {map[string]string{"": t.TempDir(), "memory": t.TempDir()}, none},
		"version 2": {map[string]string{"": group(t,
			"cpu.stat: usage_usec 1500000|user_usec 1000000|system_usec 500000",
			"memory.current: 5000", "memory.stat: anon 1|inactive_file 1000|active_file 7", "memory.max: 8192",
			"pids.current: 3", "io.stat: 8:0 rbytes=4096 wbytes=512 rios=1|8:16 rbytes=1 wbytes=2 rios=1 wios=1")},
			"cpu 1.5s memory 4000 of 8192 pids 3 read 4097 written 514"},
		"version 2 without limit, nothing on disk": {map[string]string{"": group(t,
			"cpu.stat: usage_usec 7", "memory.current: 10", "memory.stat: inactive_file 11", "memory.max: max", "io.stat: ")},
			"cpu 7µs memory 10 of - pids - read 0 written 0"},
		"version 1": {map[string]string{
			"cpuacct": group(t, "cpuacct.usage: 2000000000"),
			"memory":  group(t, "memory.usage_in_bytes: 900", "memory.stat: inactive_file 1|total_inactive_file 100", "memory.limit_in_bytes: 1000"),
			"pids":    group(t, "pids.current: 1"),
			"blkio":   group(t, "blkio.throttle.io_service_bytes_recursive: 8:0 Read 10|8:0 Write 20|8:0 Total 30|9:0 Read 1|Total 31"),
		}, "cpu 2s memory 800 of 1000 pids 1 read 11 written 20"},
		"version 1 without limit": {map[string]string{
			"memory": group(t, "memory.usage_in_bytes: 900", "memory.limit_in_bytes: 9223372036854771712")},
			"cpu - memory 900 of - pids - read - written -"},
		"a controller of version 1 beside version 2": {map[string]string{
			"pids": group(t, "pids.current: 4"), "": group(t, "cpu.stat: usage_usec 1000")},
			"cpu 1ms memory - of - pids 4 read - written -"},
		"nonsense": {map[string]string{"": group(t, "cpu.stat: usage_usec x", "memory.current: -1", "pids.current: max", "io.stat: 8:0 rbytes=x wbytes")},
			"cpu - memory - of - pids - read 0 written 0"},
	} {
		u := ReadUsage(test.paths)
		got := fmt.Sprintf("cpu %s memory %s of %s pids %s read %s written %s", text(u.CPU), text(u.Memory), text(u.MemoryLimit), text(u.Pids), text(u.BlockRead), text(u.BlockWritten))
		if got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

func text[T uint64 | time.Duration](p *T) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}
