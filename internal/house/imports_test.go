// Package house holds no code: its test keeps the imports of peel's packages as
// docs/design.md draws them, pointing down only.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport says which of peel's own packages each package may import. A package
// that is not listed may import none. When the picture changes, this table and
// docs/design.md change in the same commit.
var mayImport = map[string][]string{
	"peel/cmd/peel":                 {"*"},
	"peel/bench/peers":              {"peel/e2e/*"},
	"peel/bench/inflate":            {"peel/pkg/layers/*"},
	"peel/bench/prepare":            {"peel/e2e/layout", "peel/pkg/*"},
	"peel/pkg/progress":             {},
	"peel/pkg/store":                {"peel/internal/flock", "peel/internal/hashes"},
	"peel/pkg/registry":             {"peel/pkg/store", "peel/pkg/progress"},
	"peel/pkg/layers":               {"peel/pkg/layers/gzip", "peel/pkg/layers/inflate", "peel/pkg/layers/zstd", "peel/internal/hashes"},
	"peel/pkg/layers/gzip":          {"peel/pkg/layers/inflate"},
	"peel/pkg/layers/tar":           {"peel/pkg/layers"}, // for Chunk; layers knows nothing of entries
	"peel/pkg/layers/changeset":     {"peel/pkg/layers", "peel/pkg/layers/tar", "peel/pkg/progress"},
	"peel/pkg/image":                {"peel/internal/detached", "peel/internal/flock", "peel/pkg/store", "peel/pkg/erofs", "peel/pkg/image/merge", "peel/pkg/layers", "peel/pkg/layers/*", "peel/pkg/progress"},
	"peel/pkg/image/merge":          {"peel/pkg/layers/changeset", "peel/pkg/layers/tar", "peel/pkg/erofs"},
	"peel/internal/users":           {"peel/internal/beneath"},
	"peel/internal/userns":          {"peel/internal/rawfork"},
	"peel/pkg/bundle":               {"peel/internal/*"},
	"peel/pkg/export":               {"peel/pkg/erofs", "peel/pkg/progress"},
	"peel/pkg/cp":                   {"peel/pkg/export", "peel/pkg/progress", "peel/internal/beneath"},
	"peel/pkg/layout":               {"peel/internal/flock"},
	"peel/pkg/commit":               {"peel/pkg/layout", "peel/pkg/layers", "peel/pkg/store"},
	"peel/pkg/unpack":               {"peel/pkg/store", "peel/pkg/layers", "peel/pkg/layers/*", "peel/pkg/progress", "peel/internal/*"},
	"peel/e2e/images":               {"peel/e2e/layout", "peel/e2e/tars"},
	"peel/e2e/tars":                 {"peel/e2e/layout"},
	"peel/e2e/registry":             {"peel/e2e/layout"},
	"peel/e2e/vm/init":              {"peel/e2e/vm/job"},
	"peel/e2e/vm":                   {"peel/e2e/vm/job"},
	"peel/e2e/lab":                  {"peel/e2e/*"},
	"peel/e2e/user":                 {"peel/internal/*"},
	"peel/pkg/run":                  {"peel/pkg/export", "peel/pkg/progress", "peel/pkg/run/internal/*", "peel/internal/*"},
	"peel/pkg/run/internal/mountfd": {"peel/pkg/run/internal/proto"},
	"peel/pkg/run/internal/guest":   {"peel/pkg/run/internal/hook", "peel/pkg/run/internal/mountfd", "peel/pkg/run/internal/proto", "peel/internal/rawfork", "peel/pkg/run/internal/seccomp", "peel/internal/beneath", "peel/internal/users"},
	"peel/pkg/run/internal/pid1":    {"peel/pkg/run/internal/memory"},
	"peel/pkg/run/internal/monitor": {"peel/pkg/run/internal/memory", "peel/pkg/run/internal/mountfd", "peel/pkg/run/internal/proto", "peel/pkg/run/internal/cgroup", "peel/pkg/run/internal/selfexe", "peel/internal/rawfork", "peel/internal/userns"},
}

// onlyImporter names libraries that one package alone may know.
var onlyImporter = map[string]string{
	"github.com/google/go-containerregistry": "peel/pkg/registry",
	"github.com/spf13/cobra":                 "peel/cmd/peel",
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "peel/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, &stderr)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, "peel/") && !allowed(p.ImportPath, imp) {
				t.Errorf("%s imports %s, which lies beside or above it", p.ImportPath, imp)
			}
		}
	}
}

func TestLibrariesStayInTheirPackage(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for library, owner := range onlyImporter {
				if (imp == library || strings.HasPrefix(imp, library+"/")) && p.ImportPath != owner {
					t.Errorf("%s imports %s, which only %s may", p.ImportPath, imp, owner)
				}
			}
		}
	}
}

func TestNoPackageUsesCgoOrRunsPrograms(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.ImportPath, "peel/e2e") || strings.HasPrefix(p.ImportPath, "peel/bench") {
			continue // they drive other tools
		}
		for _, imp := range p.Imports {
			if imp == "C" || imp == "os/exec" && !slices.Contains(mayExec, p.ImportPath) {
				t.Errorf("%s imports %q", p.ImportPath, imp)
			}
		}
	}
}

// mayExec lists the packages that start programs of the host, none of which a
// hostile image can reach.
var mayExec = []string{
	"peel/pkg/run/internal/hook", // what a config asks for; that of an image asks for nothing
	"peel/internal/userns",       // newuidmap and newgidmap
}

func allowed(pkg, imp string) bool {
	for _, pattern := range mayImport[pkg] {
		if pattern == "*" || pattern == imp || strings.HasSuffix(pattern, "/*") && strings.HasPrefix(imp, strings.TrimSuffix(pattern, "*")) {
			return true
		}
	}
	return false
}
