package unpack

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"peel/pkg/layers/changeset"
)

// reference applies layers to a tree in memory, one entry after the other, as
// image-spec layer.md tells it: a layer's whiteouts hide what is below, whatever
// their place in the layer; then each entry takes the place of what has its name.
// It knows nothing of staging and merging.
type reference struct {
	root *node
	made map[place]bool // names that the current layer has given
	new  map[*node]bool // what it has made, and not only named
	// unclear: what the current layer says depends on the order of entries that
	// reach one place under two names, because a link of a lower layer is among its
	// parents. The specification has no word on these.
	unclear bool
	implied []string // made by the last walk
	turned  bool     // the last walk followed a link of this layer
}

// node is a file of any type. Two names of one inode are one node.
type node struct {
	entry
	kids map[string]*node // of a directory
}

type place struct {
	dir  *node
	name string
}

func newReference() *reference {
	root := &node{entry: parseEntry([]string{"dir", "."}), kids: map[string]*node{}}
	root.mtime = time.Unix(0, 0)
	return &reference{root: root}
}

// clone copies the directories and shares the rest.
func (n *node) clone() *node {
	if n.kids == nil {
		return n
	}
	c := &node{entry: n.entry, kids: map[string]*node{}}
	for name, k := range n.kids {
		c.kids[name] = k.clone()
	}
	return c
}

type visit struct {
	spelled, at string   // as the layer has it, and where that leads
	crossed     []string // links of lower layers on the way
	links       []string // the same, and those on the way to a hard link's target
	implied     []string // directories that were made on the way
	target      string   // of a hard link, where that leads
	dir         bool
}

func (r *reference) apply(first bool, entries []entry) error {
	below := r.root.clone()
	r.made, r.new = map[place]bool{}, map[*node]bool{}
	own, files := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		if role, err := roleOf(e.name); err == nil && role == changeset.Plain {
			own[cleanText(e.name)] = true
			files[cleanText(e.name)] = files[cleanText(e.name)] || e.kind != "dir"
		}
	}
	for _, e := range entries {
		role, err := roleOf(e.name)
		if err != nil {
			return err
		}
		dir, base := splitText(cleanText(e.name))
		switch role {
		case changeset.Opaque:
			if d := r.lowerDir(dir, own); d != nil {
				clear(d.kids)
			}
		case changeset.Whiteout:
			if d := r.lowerDir(dir, own); d != nil {
				delete(d.kids, strings.TrimPrefix(base, changeset.WhiteoutPrefix))
			}
		}
	}
	var visits []visit
	for _, e := range entries {
		if role, _ := roleOf(e.name); role != changeset.Plain {
			continue
		}
		if first {
			r.root.mtime, first = e.mtime, false
		}
		v, err := r.add(e, below)
		visits = append(visits, v)
		if err != nil {
			r.unclear = r.unclear || conflict(visits, own, files)
			return err
		}
	}
	r.unclear = r.unclear || conflict(visits, own, files)
	return nil
}

// add does one entry.
func (r *reference) add(e entry, below *node) (visit, error) {
	path := cleanText(e.name)
	dirPath, base := splitText(path)
	r.implied, r.turned = nil, false
	dir, at, crossed, err := r.walk(r.root, dirPath, &e)
	v := visit{spelled: path, at: joinPath(at, base), crossed: crossed, links: slices.Clone(crossed), implied: r.implied, dir: e.kind == "dir"}
	r.unclear = r.unclear || len(crossed) > 0 && (r.turned || err != nil)
	if err != nil {
		return v, err
	}
	old := dir.kids[base]
	switch {
	case e.kind == "dir" && old != nil && old.kids != nil:
		old.entry = e
	case e.kind == "dir":
		dir.kids[base] = &node{entry: e, kids: map[string]*node{}}
	case e.kind == "hard":
		target, at, links, err := r.target(cleanText(e.arg), v.at, below)
		v.target, v.links = at, append(v.links, links...)
		if err != nil {
			r.unclear = r.unclear || len(v.links) > 0
			return v, err
		}
		dir.kids[base] = target
	default:
		dir.kids[base] = &node{entry: e}
		r.new[dir.kids[base]] = true
	}
	r.made[place{dir, base}] = true
	return v, nil
}

// target is what a hard link names: what this layer has made under the name, else
// what was there before it. What lies below the link's own name is replaced by it.
func (r *reference) target(path, link string, below *node) (n *node, at string, crossed []string, err error) {
	dirPath, base := splitText(path)
	dir, at, crossed, err := r.walk(r.root, dirPath, nil)
	if err != nil {
		return nil, at, crossed, ErrNoTarget
	}
	full := joinPath(at, base)
	if strings.HasPrefix(full, link+"/") {
		r.unclear = r.unclear || len(crossed) > 0
		return nil, full, crossed, ErrNoTarget
	}
	if dir != nil && r.made[place{dir, base}] {
		n = dir.kids[base]
		if len(crossed) > 0 {
			r.unclear = true
		}
	} else {
		lower, _, _, err := r.walk(below, at, nil)
		if lower == nil || err != nil {
			return nil, full, crossed, ErrNoTarget
		}
		n = lower.kids[base]
	}
	switch {
	case n == nil:
		return nil, full, crossed, ErrNoTarget
	case n.kids != nil:
		return nil, full, crossed, ErrLinkToDirectory
	}
	return n, full, crossed, nil
}

var errLoop = errors.New("too many links")

// walk goes to the directory at path, following links inside root. For an entry
// it makes directories where none is; otherwise it returns nil, and how far the
// path is resolved.
func (r *reference) walk(root *node, path string, of *entry) (d *node, at string, crossed []string, err error) {
	way := []*node{root}
	for links := 0; path != ""; {
		var comp string
		comp, path, _ = strings.Cut(path, "/")
		here := way[len(way)-1]
		switch comp {
		case "", ".":
			continue
		case "..":
			way = way[:max(1, len(way)-1)]
			at, _ = splitText(at)
			continue
		}
		k := here.kids[comp]
		switch {
		case k != nil && k.kids != nil:
		case k != nil && k.kind == "link":
			if links++; links > 40 {
				return nil, at, crossed, errLoop
			}
			if r.new[k] {
				r.turned = true
			} else {
				crossed = append(crossed, joinPath(at, comp))
			}
			if strings.HasPrefix(k.arg, "/") {
				way, at = way[:1], ""
			}
			path = k.arg + "/" + path
			continue
		case of == nil:
			return nil, strings.Trim(joinPath(at, comp)+"/"+path, "/"), crossed, nil
		default:
			k = &node{entry: parseEntry([]string{"dir", comp}), kids: map[string]*node{}}
			k.mtime = of.mtime
			here.kids[comp] = k
			r.made[place{here, comp}] = true
			r.implied = append(r.implied, joinPath(at, comp))
		}
		way, at = append(way, k), joinPath(at, comp)
	}
	return way[len(way)-1], at, crossed, nil
}

// lowerDir is the directory at path in the layers below; a link that the layer
// itself replaces is not followed.
func (r *reference) lowerDir(path string, own map[string]bool) *node {
	at, d := "", r.root
	for links := 0; path != ""; {
		var comp string
		comp, path, _ = strings.Cut(path, "/")
		if comp == "" {
			continue
		}
		k := d.kids[comp]
		switch {
		case k == nil:
			return nil
		case k.kids != nil:
			d, at = k, joinPath(at, comp)
		case k.kind == "link" && !own[joinPath(at, comp)] && links <= 40:
			links++
			if strings.HasPrefix(k.arg, "/") {
				path = k.arg + "/" + path
			} else {
				path = at + "/" + k.arg + "/" + path
			}
			at, d = "", r.root
		default:
			return nil
		}
	}
	return d
}

// conflict tells whether entries reach one place under two names.
func conflict(visits []visit, own, files map[string]bool) bool {
	for _, v := range visits {
		for _, link := range v.links {
			if own[link] {
				return true
			}
			for up, _ := splitText(link); up != ""; up, _ = splitText(up) {
				if files[up] {
					return true
				}
			}
			for _, w := range visits {
				if w.at == link || w.target == link || strings.HasPrefix(link, w.at+"/") && !w.dir {
					return true
				}
			}
		}
		if len(v.crossed) == 0 {
			continue
		}
		if slices.Contains(v.implied, v.target) {
			return true
		}
		for _, w := range visits {
			if w.spelled == v.spelled && slices.Equal(v.crossed, w.crossed) || slices.Equal(v.crossed, w.crossed) && samePrefix(v, w) {
				continue
			}
			for _, at := range []string{w.at, w.spelled} {
				if v.at == at || strings.HasPrefix(v.at, at+"/") && !w.dir || strings.HasPrefix(at, v.at+"/") && !v.dir {
					return true
				}
			}
			for _, d := range v.implied {
				if strings.HasPrefix(w.at, d+"/") || w.at == d || w.target == d {
					return true
				}
			}
		}
	}
	return false
}

// samePrefix tells whether two entries come to their places in the same way.
func samePrefix(v, w visit) bool {
	a, _ := splitText(v.spelled)
	b, _ := splitText(w.spelled)
	return a == b
}

func cleanText(name string) string { return string(changeset.Clean(nil, []byte(name))) }

func splitText(path string) (dir, base string) {
	d, b := changeset.Split([]byte(path))
	return string(d), string(b)
}

func roleOf(name string) (changeset.Role, error) {
	dir, base := changeset.Split(changeset.Clean(nil, []byte(name)))
	return changeset.Classify(dir, base)
}

// list writes the tree as text, in the form of list.
func (r *reference) list() string {
	var lines []string
	first := map[*node]string{}
	var visit func(name string, n *node)
	visit = func(name string, n *node) {
		e := n.entry
		e.name = name
		if was, seen := first[n]; seen {
			e = entry{kind: "hard", name: name, arg: was}
		} else {
			first[n] = name
		}
		if s := e.String(); s != "dir ." {
			lines = append(lines, s)
		}
		for _, k := range slices.Sorted(maps.Keys(n.kids)) {
			if name == "." {
				visit(k, n.kids[k])
			} else {
				visit(name+"/"+k, n.kids[k])
			}
		}
	}
	visit(".", r.root)
	return strings.Join(lines, "\n")
}
