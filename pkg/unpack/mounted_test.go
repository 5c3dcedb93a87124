package unpack

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestForceSparesWhatIsMountedInDIR: somebody has bound a directory of his own into
// the rootfs. A bind mount has the device number of all around it.
func TestForceSparesWhatIsMountedInDIR(t *testing.T) {
	dir := workDir(t)
	target, own := filepath.Join(dir, "a b", "web"), filepath.Join(dir, "own")
	point := filepath.Join(target, "rootfs", "mnt")
	must(os.MkdirAll(point, 0o755))
	must(os.Mkdir(own, 0o755))
	must(os.WriteFile(filepath.Join(own, "precious"), nil, 0o644))
	if err := unix.Mount(own, point, "", unix.MS_BIND, ""); err != nil {
		t.Skip("needs to mount: ", err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH)

	blobs, img := imageOfText("file a")
	_, err := Image(t.Context(), blobs, img, target, Options{Force: true})
	if !errors.Is(err, ErrMountPoint) {
		t.Errorf("Image: %v, want ErrMountPoint", err)
	}
	// Whatever removes directories stops there, in a staging directory too.
	at, err := os.Open(filepath.Dir(target))
	must(err)
	defer at.Close()
	if err := removeAt(int(at.Fd()), "web"); !errors.Is(err, ErrMountPoint) {
		t.Errorf("removeAt: %v, want ErrMountPoint", err)
	}
	if _, err := os.Stat(filepath.Join(own, "precious")); err != nil {
		t.Error(err)
	}

	must(unix.Unmount(point, 0))
	if _, err := Image(t.Context(), blobs, img, target, Options{Force: true}); err != nil {
		t.Errorf("with nothing mounted: %v", err)
	}
}
