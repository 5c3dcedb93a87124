package merge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	reader "github.com/erofs/go-erofs"

	"peel/pkg/erofs"
	"peel/pkg/layers"
	"peel/pkg/layers/changeset"
	"peel/pkg/layers/tar"
)

// FuzzLayers makes hostile layers of what it is given. They are refused with an
// error that names an entry, or become a tree that package erofs takes and another
// reader reads.
func FuzzLayers(f *testing.F) {
	f.Add([]byte("0a\x00b5d\x002d/l\x00../d|1h\x00a\x000.wh.a\x00"))
	f.Add([]byte("2d\x00e\x00|0d/x\x00|0d/.wh..wh..opq\x00|5./\x00"))
	f.Add([]byte("0a/../../b\x00|3c\x00|0a/b/c\x00|1a/b\x00b\x00|0.wh...\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tars := hostileTars(b[:min(len(b), 4000)])
		root, sparse, err := merged(tars)
		if err != nil {
			var entry *changeset.EntryError
			var broken *tar.Error
			if !errors.As(err, &entry) && !errors.As(err, &broken) {
				t.Fatalf("%v names no entry", err)
			}
			return
		}
		var devices []erofs.Device
		var opts []reader.OpenOpt
		for _, b := range tars {
			devices = append(devices, erofs.Device{Size: int64(len(b))})
			opts = append(opts, reader.WithExtraDevices(bytes.NewReader(b)))
		}
		for _, size := range sparse {
			devices = append(devices, erofs.Device{Size: size})
			opts = append(opts, reader.WithExtraDevices(strings.NewReader("")))
		}
		var img bytes.Buffer
		if _, err := erofs.WriteIndex(&img, root, devices, erofs.Options{}); err != nil {
			t.Fatal(err)
		}
		if _, err := reader.Open(bytes.NewReader(img.Bytes()), opts...); err != nil {
			t.Fatal(err)
		}
		checkNames(t, root, 0)
	})
}

// checkNames looks for what only a rootfs of the host should have.
func checkNames(t *testing.T, i *erofs.Inode, depth int) {
	if depth > 600 {
		t.Fatal("deeper than the limit")
	}
	for _, e := range i.Entries {
		if strings.HasPrefix(e.Name, changeset.WhiteoutPrefix) {
			t.Fatalf("a whiteout is there: %q", e.Name)
		}
		checkNames(t, e.Inode, depth+1)
	}
}

// merged also returns the sizes of the devices that sparse files lie on.
func merged(tars [][]byte) (root *erofs.Inode, sparse []int64, err error) {
	j := &Job{Limits: changeset.Limits{}.WithDefaults(), Losses: &changeset.Losses{}}
	var list []*Layer
	for i, b := range tars {
		r := tar.NewReader(&source{b}, tar.Limits{})
		var e ends
		l, err := Read(context.Background(), j, r, i, int64(len(b)), &e)
		r.Close()
		if err != nil {
			return nil, nil, err
		}
		list = append(list, l)
		if len(Sparse([]*Layer{l})) > 0 {
			sparse = append(sparse, int64(e))
		}
	}
	root, _, err = Merge(list)
	return root, sparse, err
}

// ends gives sparse files places one behind the other.
type ends int64

func (e *ends) Expand(h *tar.Header, _ Archive) (int64, error) {
	off := int64(*e)
	*e += ends((h.Size + 511) &^ 511)
	return off, nil
}

// source is a tar in one piece.
type source struct{ b []byte }

func (s *source) Next() (*layers.Chunk, error) {
	if len(s.b) == 0 {
		return nil, io.EOF
	}
	b := s.b
	s.b = nil
	return layers.NewChunk(b, nil), nil
}

// hostileTars makes layers of text: "|" begins another layer, an entry is a type, a
// name and, for links, a target, both up to a NUL. Tar writers refuse much of it.
func hostileTars(b []byte) (tars [][]byte) {
	next := func() string {
		s, rest, _ := bytes.Cut(b, []byte{0})
		b = rest
		return string(s)
	}
	tars = [][]byte{nil}
	for len(b) > 0 {
		typ := b[0]
		b = b[1:]
		if typ == '|' {
			tars = append(tars, nil)
			continue
		}
		name, link, body := next(), "", ""
		switch typ {
		case '1', '2':
			link = next()
		case '0':
			body = name
		}
		last := &tars[len(tars)-1]
		*last = append(*last, header(typ, name, link, len(body))...)
		*last = append(*last, body...)
		*last = append(*last, make([]byte, -len(body)&511)...)
	}
	return tars
}

// header is a tar header, with a GNU long name before it where one is needed.
func header(typ byte, name, link string, size int) []byte {
	var b []byte
	for k, long := range map[byte]string{'L': name, 'K': link} {
		if len(long) > 100 {
			b = append(b, header(k, "", "", len(long)+1)...)
			b = append(b, long...)
			b = append(b, make([]byte, 512-len(long)&511)...)
		}
	}
	h := make([]byte, 512)
	copy(h[0:100], name)
	copy(h[100:], fmt.Sprintf("%07o", uint8(size)*3))
	copy(h[124:], fmt.Sprintf("%011o", size))
	copy(h[136:], fmt.Sprintf("%011o", len(name)))
	copy(h[148:], "        ")
	h[156] = typ
	copy(h[157:257], link)
	copy(h[257:], "ustar  \x00")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(b, h...)
}
