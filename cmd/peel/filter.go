package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"peel/pkg/registry"
	"peel/pkg/run"
)

// filters are the words of --filter by key. What has several words of one key has
// to fit one of them, but all labels, as docker has it.
type filters map[string][]string

// parseFilters takes KEY=VALUE with one of the keys.
func parseFilters(words []string, keys ...string) (filters, error) {
	f := filters{}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if key = strings.TrimSpace(key); !ok || !slices.Contains(keys, key) {
			return nil, usageError{nil, fmt.Errorf("--filter %q: want KEY=VALUE with a KEY of %s", word, strings.Join(keys, ", "))}
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

func (f filters) asks(key string) bool { return len(f[key]) > 0 }

// some tells whether something fits one of the words of key, or there are none.
func (f filters) some(key string, fits func(word string) bool) bool {
	return !f.asks(key) || slices.ContainsFunc(f[key], fits)
}

// labels tells whether labels has all of those that are asked for, as NAME or
// NAME=VALUE.
func (f filters) labels(labels map[string]string) bool {
	return !slices.ContainsFunc(f["label"], func(word string) bool {
		name, want, exact := strings.Cut(word, "=")
		value, ok := labels[name]
		return !ok || exact && value != want
	})
}

// containerFilter is what --filter asks of containers.
type containerFilter struct {
	filters
	names []*regexp.Regexp
	codes []int
	// ancestors are images by the forms in which a container may name its own.
	ancestors map[string]bool
}

func (a *app) containerFilter(words []string) (f containerFilter, err error) {
	if f.filters, err = parseFilters(words, "name", "id", "label", "status", "exited", "ancestor"); err != nil {
		return f, err
	}
	for _, word := range f.filters["name"] {
		// Docker has names begin with a slash, which an expression may expect.
		re, err := regexp.Compile(strings.Replace(word, "^/", "^", 1))
		if err != nil {
			return f, usageError{nil, fmt.Errorf("--filter name: %w", err)}
		}
		f.names = append(f.names, re)
	}
	for _, word := range f.filters["exited"] {
		code, err := strconv.Atoi(word)
		if err != nil {
			return f, usageError{nil, fmt.Errorf("--filter exited=%s: want an exit code", word)}
		}
		f.codes = append(f.codes, code)
	}
	phases := []string{string(run.Created), string(run.Running), string(run.Restarting), string(run.Exited)}
	for _, word := range f.filters["status"] {
		if !slices.Contains(phases, word) {
			return f, usageError{nil, fmt.Errorf("--filter status=%s: want one of %s", word, strings.Join(phases, ", "))}
		}
	}
	if f.asks("ancestor") {
		err = f.findAncestors(a)
	}
	return f, err
}

// findAncestors looks up the images that are named by their ids.
func (f *containerFilter) findAncestors(a *app) error {
	f.ancestors = map[string]bool{}
	st, err := a.openStore()
	if err != nil {
		return err
	}
	defer st.Close()
	imgs, _ := st.Images() // what is broken has other verbs to complain of it
	for _, word := range f.filters["ancestor"] {
		f.ancestors[word] = true
		if ref, err := registry.ParseReference(word); err == nil {
			f.ancestors[ref.String()] = true
		}
		for _, img := range imgs {
			if isDigestPrefix(img.Manifest.Config.Digest.String(), word) || isDigestPrefix(img.Descriptor.Digest.String(), word) || img.Source.String() == word {
				f.ancestors[img.Name], f.ancestors[img.Descriptor.Digest.String()] = true, true
			}
		}
	}
	return nil
}

// isDigestPrefix tells whether prefix, with its algorithm or without, begins digest.
// Docker takes it from a single digit on, which may be any tag as well: then that
// counts.
func isDigestPrefix(digest, prefix string) bool {
	_, hex, _ := strings.Cut(digest, ":")
	return len(prefix) > 0 && (strings.HasPrefix(hex, prefix) || strings.HasPrefix(digest, prefix) && strings.Contains(prefix, ":"))
}

func (f containerFilter) take(c *run.Container, s run.Status) bool {
	switch {
	case len(f.names) > 0 && !slices.ContainsFunc(f.names, func(re *regexp.Regexp) bool { return re.MatchString(c.Name) }),
		len(f.codes) > 0 && (s.Phase != run.Exited || !slices.Contains(f.codes, s.Code)),
		!f.some("id", func(word string) bool { return strings.HasPrefix(c.ID, word) }),
		!f.some("status", func(word string) bool { return word == string(s.Phase) }),
		f.ancestors != nil && !f.descends(c):
		return false
	}
	return f.labels(c.Labels)
}

func (f containerFilter) descends(c *run.Container) bool {
	if c.Root.Image != nil && f.ancestors[c.Root.Image.Manifest.String()] || f.ancestors[c.Image] {
		return true
	}
	ref, err := registry.ParseReference(c.Image)
	return err == nil && f.ancestors[ref.String()]
}
