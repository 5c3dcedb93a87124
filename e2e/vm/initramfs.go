package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeInitramfs writes what the kernel boots with, a cpio archive in the format
// newc (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst):
// the program init, and modules named in the order they are to be loaded.
func writeInitramfs(path, init string, modules []string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := &cpio{w: bufio.NewWriter(f)}
	for _, dir := range []string{"dev", "disk", "modules"} {
		w.add(dir, 0o40755, 0, nil)
	}
	w.file("init", init)
	for i, m := range modules {
		w.file(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(m)), m)
	}
	w.add("TRAILER!!!", 0, 0, nil)
	return errors.Join(w.err, w.w.Flush(), f.Close())
}

type cpio struct {
	w     *bufio.Writer
	inode int
	err   error // the first
}

func (c *cpio) file(name, from string) {
	f, err := os.Open(from)
	if err != nil {
		c.err = errors.Join(c.err, err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		c.err = errors.Join(c.err, err)
		return
	}
	c.add(name, 0o100755, info.Size(), f)
}

// add writes a header of 13 fields of 8 hexadecimal digits, the name and the
// content, each filled up to a multiple of 4 bytes.
func (c *cpio) add(name string, mode uint32, size int64, content io.Reader) {
	if c.err != nil {
		return
	}
	c.inode++
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	if _, c.err = c.w.WriteString(head); c.err != nil {
		return
	}
	c.pad(int64(len(head)))
	if content == nil {
		return
	}
	if _, err := io.CopyN(c.w, content, size); err != nil {
		c.err = err
		return
	}
	c.pad(size)
}

func (c *cpio) pad(n int64) {
	for ; n%4 != 0 && c.err == nil; n++ {
		c.err = c.w.WriteByte(0)
	}
}
