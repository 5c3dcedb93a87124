package erofs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// FuzzTree makes trees of what it is given, and has them read back.
func FuzzTree(f *testing.F) {
	f.Add([]byte("a file\x00\x05some bytes that make directories, links and more"))
	f.Add(bytes.Repeat([]byte{1, 250, 3, 'x', 0xff}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 2000)]
		tree := newTree()
		dirs, all := []*Inode{tree.root}, []*Inode{}
		taken := map[*Inode]map[string]bool{}
		next := func(n int) []byte {
			n = min(n, len(b))
			p := b[:n]
			b = b[n:]
			return p
		}
		one := func() int {
			if p := next(1); len(p) > 0 {
				return int(p[0])
			}
			return 0
		}
		for len(b) > 0 {
			dir := dirs[one()%len(dirs)]
			name := string(next(one()))
			if checkName(name) != nil || taken[dir][name] {
				continue
			}
			i := &Inode{Mode: uint32(one()), UID: uint32(one()) << 20, Sec: int64(one()) - 100, Nsec: uint32(one())}
			switch one() % 6 {
			case 0:
				i.Mode |= typeDir
				dirs = append(dirs, i)
			case 1:
				i.Mode, i.Target = i.Mode|typeSymlink, strings.Repeat("t", 1+one()*16)
			case 2:
				i.Mode, i.Rdev = i.Mode|typeChar, Rdev{uint32(one()) << 4, uint32(one()) << 12}
			case 3:
				if len(all) > 0 {
					i = all[one()%len(all)]
					break
				}
				fallthrough
			default:
				i.Mode, i.Size, i.Device, i.Offset = i.Mode|typeRegular, int64(one())*int64(one()), 1, int64(len(tree.data))
				tree.data = append(tree.data, bytes.Repeat([]byte{byte(i.Size)}, int(alignUp(i.Size, 512)))...)
			}
			if n := one(); n < 100 && i.Xattrs == nil {
				for k := range n % 8 {
					i.Xattrs = append(i.Xattrs, Xattr{fmt.Sprintf("user.%d", k), string(next(n))})
				}
			}
			if !i.is(typeDir) {
				all = append(all, i)
			}
			if taken[dir] == nil {
				taken[dir] = map[string]bool{}
			}
			taken[dir][name] = true
			dir.Entries = append(dir.Entries, Dirent{name, i})
		}
		for _, k := range kinds {
			got := readBack(t, tree.write(t, k.write), tree.devices())
			if want := tree.shapes(t); got != want {
				t.Fatal(k.name, firstDifference(got, want))
			}
			checkStructure(t, tree.write(t, k.write), tree)
		}
	})
}

// checkStructure checks what readers rely on without saying so when it is not so.
func checkStructure(tb testing.TB, img []byte, tree *tree) {
	tb.Helper()
	blockSize := int64(1) << img[superOffset+12]
	var spans []Region
	seen := map[*Inode]bool{}
	var visit func(i *Inode)
	visit = func(i *Inode) {
		if seen[i] {
			return
		}
		seen[i] = true
		end := i.pos + inodeSize + i.xattrSize + i.tail
		if i.pos%inodeAlign != 0 || i.pos/blockSize != (i.pos+inodeSize-1)/blockSize {
			tb.Errorf("an inode at %d", i.pos)
		}
		if i.tail > 0 && i.pos/blockSize != (end-1)/blockSize {
			tb.Errorf("an inode at %d, its tail ends in another block, at %d", i.pos, end)
		}
		spans = append(spans, Region{i.pos, end - i.pos})
		if whole := i.length - i.tail; i.layout != chunkBased && whole > 0 {
			spans = append(spans, Region{int64(i.start) * blockSize, whole})
		}
		for _, e := range i.Entries {
			visit(e.Inode)
		}
	}
	visit(tree.root)
	slices.SortFunc(spans, func(a, b Region) int { return int(a.Off - b.Off) })
	end := int64(superOffset + superSize)
	for _, s := range spans {
		if s.Off < end {
			tb.Errorf("what begins at %d overlaps with what ends at %d", s.Off, end)
		}
		end = s.Off + s.Len
	}
	if end > int64(len(img)) {
		tb.Errorf("ends at %d, the image at %d", end, len(img))
	}
}
