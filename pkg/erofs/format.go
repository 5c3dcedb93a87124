package erofs

import (
	"encoding/binary"
	"hash/crc32"
)

// Where things are, and how long (fs/erofs/erofs_fs.h in the kernel's source).
const (
	superOffset = 1024
	superSize   = 128
	slotSize    = 128 // of the device table
	inodeSize   = 64  // an extended one
	inodeAlign  = 32  // the unit of nids
	direntSize  = 12
	indexSize   = 8 // a chunk index

	xattrHeaderSize = 12
	xattrEntrySize  = 4 // without the name and the value
	xattrAlign      = 4

	maxName   = 255
	maxTarget = 4095 // PATH_MAX, less the NUL
	nullBlock = 1<<32 - 1
)

const superMagic = 0xe0f5e1e2

// Features, compatible (a reader may not know them) and incompatible.
const (
	compatChecksum = 1 << 0
	compatMtime    = 1 << 1

	incompatChunkedFile = 1 << 2
	incompatDeviceTable = 1 << 3
)

// Inode data layouts.
const (
	flatPlain  = 0
	flatInline = 2
	chunkBased = 4
)

const chunkIndexes = 0x20 // in a chunk format: indexes, not bare block numbers

// The types of files, in st_mode.
const (
	typeMask    = 0o170000
	typeFifo    = 0o010000
	typeChar    = 0o020000
	typeDir     = 0o040000
	typeBlock   = 0o060000
	typeRegular = 0o100000
	typeSymlink = 0o120000
	typeSocket  = 0o140000
)

// fileType is a type as a directory entry has it.
func fileType(mode uint32) byte {
	switch mode & typeMask {
	case typeRegular:
		return 1
	case typeDir:
		return 2
	case typeChar:
		return 3
	case typeBlock:
		return 4
	case typeFifo:
		return 5
	case typeSocket:
		return 6
	case typeSymlink:
		return 7
	}
	return 0
}

var le = binary.LittleEndian

// super is struct erofs_super_block, but for its checksum.
func (l *layout) super() []byte {
	b := make([]byte, superSize)
	incompat := uint32(0)
	if l.chunked {
		incompat |= incompatChunkedFile
	}
	if l.slots() > 0 {
		incompat |= incompatDeviceTable
	}
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], compatMtime)
	if l.signed() {
		le.PutUint32(b[8:], compatMtime|compatChecksum)
	}
	b[12] = l.blockBits
	le.PutUint16(b[14:], uint16(l.root.nid()))
	le.PutUint64(b[16:], uint64(len(l.inodes)))
	le.PutUint32(b[36:], uint32(l.blocks))
	// meta_blkaddr, at 40, is 0: nids count from the start.
	le.PutUint32(b[44:], uint32(l.sharedBase>>l.blockBits))
	copy(b[48:64], l.options.UUID[:])
	copy(b[64:80], l.options.Label)
	le.PutUint32(b[80:], incompat)
	le.PutUint16(b[86:], uint16(l.slots()))
	le.PutUint16(b[88:], (superOffset+superSize)/slotSize)

	return b
}

// signed tells whether the superblock has a checksum. It covers the first block
// from the superblock on. Where blocks are so small that the superblock is in
// another one, readers do not agree on what is covered (fsck.erofs 1.8 crashes),
// and mkfs.erofs writes none.
func (l *layout) signed() bool { return l.blockSize() > superOffset }

// sign sets the superblock's checksum. block is the file system's first.
func sign(block []byte) {
	covered := block[superOffset:]
	// The kernel's crc32c, which is not inverted at the end as Go's is.
	le.PutUint32(covered[4:], ^crc32.Checksum(covered, crc32.MakeTable(crc32.Castagnoli)))
}

// slot appends struct erofs_deviceslot.
func (l *layout) slot(b []byte, d *Device) []byte {
	var s [slotSize]byte
	copy(s[:64], d.Tag)
	le.PutUint32(s[64:], uint32(l.blocksOf(d.Size)))
	return append(b, s[:]...)
}

// header appends struct erofs_inode_extended.
func (i *Inode) header(b []byte) []byte {
	b = le.AppendUint16(b, 1|uint16(i.layout)<<1)
	b = le.AppendUint16(b, i.xattrCount())
	b = le.AppendUint16(b, uint16(i.Mode))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, uint64(i.length))
	b = le.AppendUint32(b, i.union())
	b = le.AppendUint32(b, i.number)
	b = le.AppendUint32(b, i.UID)
	b = le.AppendUint32(b, i.GID)
	b = le.AppendUint64(b, uint64(i.Sec))
	b = le.AppendUint32(b, i.Nsec)
	b = le.AppendUint32(b, i.links)
	return append(b, make([]byte, 16)...)
}

// union is the field whose meaning depends on the inode: i_u.
func (i *Inode) union() uint32 {
	switch {
	case i.Mode&typeMask == typeChar || i.Mode&typeMask == typeBlock:
		// The kernel's new_encode_dev.
		return i.Rdev.Minor&0xff | i.Rdev.Major<<8 | i.Rdev.Minor&^0xff<<12
	case i.layout == chunkBased:
		return uint32(i.chunkBits) | chunkIndexes
	}
	return i.start
}

// xattrCount is how the size of an inode's attributes is written: i_xattr_icount.
func (i *Inode) xattrCount() uint16 {
	if i.xattrSize == 0 {
		return 0
	}
	return uint16((i.xattrSize-xattrHeaderSize)/xattrAlign + 1)
}

// appendIndex appends struct erofs_inode_chunk_index.
func appendIndex(b []byte, device int, block uint32) []byte {
	b = le.AppendUint16(b, 0)
	b = le.AppendUint16(b, uint16(device))
	return le.AppendUint32(b, block)
}
