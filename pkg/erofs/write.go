package erofs

import (
	"errors"
	"io"
)

// write does all.
func write(w io.Writer, l *layout) (int64, error) {
	if err := l.collect(); err != nil {
		return 0, err
	}
	if err := l.arrange(); err != nil {
		return 0, err
	}
	o := &out{w: w, blockSize: l.blockSize(), signed: l.signed(), buf: make([]byte, 0, outSize)}
	if err := l.writeTo(o); err != nil {
		return o.written, err
	}
	err := o.flush()
	return o.written, err
}

func (l *layout) writeTo(o *out) error {
	o.pad(superOffset)
	o.buf = append(o.buf, l.super()...)
	if !l.embed {
		for n := range l.devices {
			o.buf = l.slot(o.buf, &l.devices[n])
		}
	}
	for _, x := range l.shared {
		o.buf = appendXattr(o.buf, x)
	}
	for _, i := range l.inodes {
		if err := l.writeInode(o, i); err != nil {
			return err
		}
		if err := o.room(); err != nil {
			return err
		}
	}
	o.padBlock()
	for _, i := range l.inodes {
		if err := l.writeBlocks(o, i); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) writeInode(o *out, i *Inode) error {
	o.pad(i.pos)
	o.buf = i.header(o.buf)
	o.buf = l.xattrs(o.buf, i)
	switch {
	case i.layout == chunkBased:
		o.pad(alignUp(o.pos(), indexSize))
		return l.writeIndexes(o, i)
	case i.tail == 0:
	case i.is(typeDir):
		o.buf = i.dirBlock(o.buf, len(i.dir.ends)-1)
	case i.is(typeSymlink):
		o.buf = append(o.buf, i.Target[i.length-i.tail:]...)
	default:
		return l.copy(o, i, i.length-i.tail, i.tail)
	}
	return nil
}

func (l *layout) writeIndexes(o *out, i *Inode) error {
	if !l.embed {
		block := uint32(i.Offset >> l.blockBits)
		for range l.chunks(i) {
			o.buf = appendIndex(o.buf, i.Device, block)
			block += 1 << i.chunkBits
		}
		return nil
	}
	block, next := i.start, int64(0)
	holes := func(until int64) {
		for ; next < until; next++ {
			o.buf = appendIndex(o.buf, 0, nullBlock)
		}
	}
	_ = l.dataChunks(i, func(n int64) error {
		holes(n)
		o.buf = appendIndex(o.buf, 0, block)
		block += uint32(l.chunkBlocks(i, n))
		next++
		return nil
	})
	holes(l.chunks(i))
	return nil
}

// writeBlocks writes what i has behind all inodes.
func (l *layout) writeBlocks(o *out, i *Inode) error {
	switch whole := i.length - i.tail; {
	case i.layout == chunkBased && l.embed:
		return l.dataChunks(i, func(n int64) error {
			defer o.padBlock()
			off := n * l.chunkSize(i)
			return l.copy(o, i, off, min(l.chunkSize(i), i.length-off))
		})
	case i.layout == chunkBased || whole == 0:
		return nil
	case i.is(typeDir):
		for k := range l.blocksOf(whole) {
			o.buf = i.dirBlock(o.buf, int(k))
			o.padBlock()
			if err := o.room(); err != nil {
				return err
			}
		}
		return nil
	case i.is(typeSymlink):
		o.buf = append(o.buf, i.Target[:whole]...)
	default:
		if err := l.copy(o, i, 0, whole); err != nil {
			return err
		}
	}
	o.padBlock()
	return nil
}

// copy writes n bytes of a file from off on.
func (l *layout) copy(o *out, i *Inode, off, n int64) error {
	from := l.devices[i.Device-1].Bytes
	for n > 0 {
		if err := o.room(); err != nil {
			return err
		}
		m := min(n, int64(outSize-len(o.buf)))
		to := o.buf[len(o.buf) : len(o.buf)+int(m)]
		got, err := from.ReadAt(to, i.Offset+off)
		if int64(got) < m {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		o.buf = o.buf[:len(o.buf)+int(m)]
		off, n = off+m, n-m
	}
	return nil
}

// out collects bytes, and writes them in large pieces. What is collected at first
// is at least the first block, so that the superblock can be signed.
type out struct {
	w         io.Writer
	blockSize int64
	signed    bool
	buf       []byte
	written   int64
}

const outSize = 256 << 10

func (o *out) pos() int64 { return o.written + int64(len(o.buf)) }

// pad adds zeros up to pos.
func (o *out) pad(pos int64) {
	n := pos - o.pos()
	if n < 0 || n > 2*4096 {
		panic("erofs: something is not where it was meant to be")
	}
	o.buf = append(o.buf, make([]byte, n)...)
}

func (o *out) padBlock() { o.pad(alignUp(o.pos(), o.blockSize)) }

// room sees to it that there is room for another inode, block or run of bytes.
func (o *out) room() error {
	if outSize-len(o.buf) < 4096 {
		return o.flush()
	}
	return nil
}

// flush writes what is collected.
func (o *out) flush() error {
	if o.written == 0 && o.signed {
		sign(o.buf[:o.blockSize])
	}
	n, err := o.w.Write(o.buf)
	o.written += int64(n)
	o.buf = o.buf[:0]
	return err
}
