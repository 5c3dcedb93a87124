package erofs

import (
	"sort"
)

// dirPlace is what writing finds out about a directory.
type dirPlace struct {
	parent      *Inode // the root's is itself
	dot, dotdot int    // where "." and ".." come among the names
	ends        []int  // ends[n] is the first name that is in none of the first n+1 blocks
}

// name returns the n-th name of a directory, "." and ".." included, and what it is
// the name of.
func (i *Inode) name(n int) (string, *Inode) {
	switch d := i.dir; {
	case n == d.dot:
		return ".", i
	case n == d.dotdot:
		return "..", d.parent
	case n > d.dotdot:
		n -= 2
	case n > d.dot:
		n--
	}
	return i.Entries[n].Name, i.Entries[n].Inode
}

// measureDir divides a directory, whose entries are sorted, into blocks, and
// returns its size. The last block counts only as far as it is used.
func (i *Inode) measureDir(blockSize int64) int64 {
	d := i.dir
	d.dot = sort.Search(len(i.Entries), func(n int) bool { return i.Entries[n].Name > "." })
	// "." comes first, but ".-" is between the two.
	d.dotdot = sort.Search(len(i.Entries), func(n int) bool { return i.Entries[n].Name > ".." }) + 1
	names := len(i.Entries) + 2
	used := int64(0)
	for n := range names {
		name, _ := i.name(n)
		need := int64(direntSize + len(name))
		if used+need > blockSize {
			d.ends = append(d.ends, n)
			used = 0
		}
		used += need
	}
	d.ends = append(d.ends, names)
	return int64(len(d.ends)-1)*blockSize + used
}

// dirBlock appends the directory's block number k, as far as it is used.
func (i *Inode) dirBlock(b []byte, k int) []byte {
	first, end := 0, i.dir.ends[k]
	if k > 0 {
		first = i.dir.ends[k-1]
	}
	offset := (end - first) * direntSize
	for n := first; n < end; n++ {
		name, inode := i.name(n)
		b = le.AppendUint64(b, inode.nid())
		b = le.AppendUint16(b, uint16(offset))
		b = append(b, fileType(inode.Mode), 0)
		offset += len(name)
	}
	for n := first; n < end; n++ {
		name, _ := i.name(n)
		b = append(b, name...)
	}
	return b
}
