package erofs

import (
	"math/bits"
)

// layout is one write: first everything gets its place, then it is written from
// the first byte to the last.
type layout struct {
	blockBits byte
	embed     bool // the files' bytes go inside
	root      *Inode
	devices   []Device
	options   Options

	inodes  []*Inode // in the order in which they are written
	chunked bool     // there is an inode of that layout
	blocks  int64    // of all that is written

	shared       []Xattr
	sharedBase   int64 // what numbers of shared attributes count from
	sharedNumber map[Xattr]int
}

func (l *layout) blockSize() int64         { return 1 << l.blockBits }
func (l *layout) blocksOf(n int64) int64   { return (n + l.blockSize() - 1) >> l.blockBits }
func alignUp(n, unit int64) int64          { return (n + unit - 1) &^ (unit - 1) }
func (i *Inode) is(typ uint32) bool        { return i.Mode&typeMask == typ }
func (l *layout) chunkSize(i *Inode) int64 { return l.blockSize() << i.chunkBits }

// slots is the number of slots in the device table.
func (l *layout) slots() int {
	if l.embed {
		return 0
	}
	return len(l.devices)
}

// arrange finds a place for everything.
func (l *layout) arrange() error {
	pos := int64(superOffset + superSize + l.slots()*slotSize)
	pos, err := l.shareXattrs(pos)
	if err != nil {
		return &Error{"/", err}
	}
	for _, i := range l.inodes {
		pos = l.arrangeInode(i, pos)
	}
	if l.root.nid() >= 1<<16 {
		panic("erofs: the root is out of reach of the superblock")
	}
	block := l.blocksOf(pos)
	for _, i := range l.inodes {
		if n := l.blocksWanted(i); n > 0 {
			i.start = uint32(block)
			block += n
		}
		if block >= nullBlock {
			return &Error{"/", ErrTooBig}
		}
	}
	l.blocks = block
	return nil
}

// arrangeInode gives i, with what stands behind it, the next place from pos on,
// and returns where that ends.
func (l *layout) arrangeInode(i *Inode, pos int64) int64 {
	pos = alignUp(pos, inodeAlign)
	l.chooseLayout(i)
	head := inodeSize + i.xattrSize
	switch i.layout {
	case chunkBased:
		i.pos = l.within(pos, inodeSize)
		return alignUp(i.pos+head, indexSize) + l.chunks(i)*indexSize
	case flatInline:
		i.pos = l.within(pos, head+i.tail)
		return i.pos + head + i.tail
	}
	i.pos = l.within(pos, inodeSize)
	return i.pos + head
}

// within returns pos, or the start of the next block if n bytes from pos on reach
// into that.
func (l *layout) within(pos, n int64) int64 {
	if next := alignUp(pos+1, l.blockSize()); pos+n > next {
		return next
	}
	return pos
}

func (l *layout) chooseLayout(i *Inode) {
	switch i.Mode & typeMask {
	case typeDir:
		i.length = i.measureDir(l.blockSize())
	case typeSymlink:
		i.length = int64(len(i.Target))
	case typeRegular:
		i.length = i.Size
		if i.Size > 0 && (!l.embed || i.hasHoles()) {
			l.chooseChunks(i)
			return
		}
	}
	i.layout = flatPlain
	// A tail behind an inode with more attributes than a block would need blocks of
	// its own anyway.
	i.tail = i.length & (l.blockSize() - 1)
	if i.tail > 0 && inodeSize+i.xattrSize+i.tail <= l.blockSize() {
		i.layout = flatInline
	} else {
		i.tail = 0
	}
}

func (i *Inode) hasHoles() bool {
	return i.Sparse && (len(i.Data) != 1 || i.Data[0] != Region{0, i.Size})
}

// maxHoleChunks bounds the chunks of a file that has holes: they can be so large
// that a few tar headers would give rise to gigabytes of indexes.
const maxHoleChunks = 1 << 16

// chooseChunks makes a file chunk-based. On a device it lies in one run, and is
// one chunk. In an image, chunks are as small as makes sense, for the holes.
func (l *layout) chooseChunks(i *Inode) {
	l.chunked = true
	i.layout = chunkBased
	blocks := uint64(l.blocksOf(i.Size))
	if l.embed && len(i.Data) > 0 {
		blocks = (blocks + maxHoleChunks - 1) / maxHoleChunks
	}
	i.chunkBits = byte(min(bits.Len64(blocks-1), 31))
}

func (l *layout) chunks(i *Inode) int64 {
	return (i.length + l.chunkSize(i) - 1) / l.chunkSize(i)
}

// chunkBlocks is how many blocks chunk n of i has.
func (l *layout) chunkBlocks(i *Inode, n int64) int64 {
	return l.blocksOf(min(l.chunkSize(i), i.length-n*l.chunkSize(i)))
}

// dataChunks calls f for each chunk of i that is not all hole, in order.
func (l *layout) dataChunks(i *Inode, f func(n int64) error) error {
	next := int64(0)
	for _, r := range i.Data {
		last := (r.Off + r.Len - 1) / l.chunkSize(i)
		for n := max(next, r.Off/l.chunkSize(i)); n <= last; n++ {
			if err := f(n); err != nil {
				return err
			}
		}
		next = max(next, last+1)
	}
	return nil
}

// blocksWanted is how many blocks i takes behind all inodes.
func (l *layout) blocksWanted(i *Inode) int64 {
	if i.layout != chunkBased {
		return l.blocksOf(i.length - i.tail)
	}
	blocks := int64(0)
	if l.embed {
		_ = l.dataChunks(i, func(n int64) error {
			blocks += l.chunkBlocks(i, n)
			return nil
		})
	}
	return blocks
}
