package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"peel/pkg/unpack"
)

// limitFlag is --limit: each use sets one of the bounds on what an image can make
// peel do.
type limitFlag struct {
	unpack.Limits
	said []string // as it was given
}

// register adds the flag; the help of one verb explains the keys for all.
func (f *limitFlag) register(flags *pflag.FlagSet, explain bool) {
	usage := "change a bound on what an image may hold"
	if explain {
		usage += "; KEY is one of\n" + limitHelp()
	} else {
		usage += ": see 'peel unpack --help'"
	}
	flags.Var(f, "limit", usage)
}

// limitKeys are the bounds by the names that users know them by.
func (f *limitFlag) limitKeys() []limitKey {
	l, t := &f.Limits, &f.Tar
	return []limitKey{
		{"entries", "entries in all layers", "8M", func(n int64) { l.Entries, t.Headers = n, max(4*n, 16<<20) }},
		{"bytes", "bytes of all files", "1T", func(n int64) { l.Bytes, t.Total = n, max(n, 1<<40) }},
		{"file-bytes", "bytes of one file", "256G", func(n int64) { l.FileBytes = n }},
		{"ratio", "times that a layer of more than 1G may be larger than its blob", "256", func(n int64) { l.Ratio = n }},
		{"depth", "directories above a name", "512", func(n int64) { l.Depth = int(n) }},
		{"kept", "directories, whiteouts and links to other layers", "512k", func(n int64) { l.Kept = n }},
		{"name", "bytes of a name", "4k", func(n int64) { t.Name = int(n) }},
		{"header", "bytes of one extended header", "1M", func(n int64) { t.Meta = n }},
		{"xattrs", "extended attributes of an entry", "256", func(n int64) { t.Xattrs = int(n) }},
		{"xattr-bytes", "bytes of one attribute", "64k", func(n int64) { t.XattrValue, t.XattrTotal = int(n), int(max(n, 256<<10)) }},
	}
}

type limitKey struct {
	name, what, usual string
	set               func(int64)
}

func limitHelp() string {
	var b strings.Builder
	for i, k := range new(limitFlag).limitKeys() {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "  %-12s%s (%s)", k.name, k.what, k.usual)
	}
	return b.String()
}

// Type is what the value is called in the help.
func (f *limitFlag) Type() string { return "KEY=NUMBER" }

// String is the default, which the help does not show.
func (f *limitFlag) String() string { return "" }

// Set takes KEY=NUMBER; the number may have a unit, powers of 1024.
func (f *limitFlag) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	keys := f.limitKeys()
	i := slices.IndexFunc(keys, func(k limitKey) bool { return k.name == name })
	if i < 0 {
		var names []string
		for _, k := range keys {
			names = append(names, k.name)
		}
		return fmt.Errorf("want one of %s, then '=' and a number", strings.Join(names, ", "))
	}
	n, err := units.RAMInBytes(value)
	if !ok || err != nil || n <= 0 {
		return fmt.Errorf("want a number above 0, as in %s=%s", name, keys[i].usual)
	}
	keys[i].set(n)
	f.said = append(f.said, text)
	return nil
}
