package unpack

import (
	"golang.org/x/sys/unix"

	"peel/pkg/store"
)

// room refuses an image that cannot fit: it takes more than its blobs do, almost
// without exception, and finding out late costs the user minutes.
func (st *staging) room(img *store.Image) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(st.fd(), &fs); err != nil {
		return err
	}
	need := int64(0)
	for _, d := range img.Manifest.Layers {
		need += d.Size
	}
	if free := int64(fs.Bfree) * fs.Bsize; fs.Blocks > 0 && need > free {
		return &SpaceError{Need: need, Free: free}
	}
	return nil
}
