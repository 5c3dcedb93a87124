package mountfd

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Overlay is trees laid together.
type Overlay struct {
	Lower []string // read-only, the topmost first
	// Upper gets the changes, and Work, an empty directory beside it, is the
	// kernel's. Without them the whole is read-only, and wants two of Lower.
	Upper, Work string
	// UserXattr: marks are user.overlay.* attributes, as trusted.* are out of reach
	// without real privilege.
	UserXattr bool
	// Volatile: what is written need not survive a power failure. Otherwise the
	// kernel syncs the whole file system of Upper when the overlay goes. Work then
	// holds a mark that keeps it from being used again: see ClearVolatile.
	Volatile bool
}

// ClearVolatile lets the work directory of a volatile overlay be used once more.
func ClearVolatile(work string) error {
	return os.RemoveAll(filepath.Join(work, "work/incompat/volatile"))
}

// NewOverlay makes an overlay that is attached nowhere. All directories must lie
// in this process's mount namespace.
func NewOverlay(o Overlay) (int, error) {
	var params []string
	// "lowerdir+" takes one layer at a time, with any characters and without
	// the page that mount(2) allows for all (Linux 6.5); before, one string.
	if overlayAppends() {
		for _, l := range o.Lower {
			params = append(params, "lowerdir+="+l)
		}
	} else {
		escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
		var all []string
		for _, l := range o.Lower {
			all = append(all, escape.Replace(l))
		}
		params = append(params, "lowerdir="+strings.Join(all, ":"))
	}
	attr := unix.MOUNT_ATTR_RDONLY
	if o.Upper != "" {
		params = append(params, "upperdir="+o.Upper, "workdir="+o.Work)
		// Upper has all that was changed, in full, whatever the kernel's defaults
		// are: it is what becomes a layer. With user.* marks it does so anyway.
		params = append(params, "index=off")
		if !o.UserXattr {
			params = append(params, "redirect_dir=off", "metacopy=off")
		}
		attr = 0
		if o.Volatile {
			params = append(params, "volatile")
		}
	}
	if o.UserXattr {
		params = append(params, "userxattr")
	}
	return NewFS("overlay", "overlay", params, attr)
}

// overlayAppends asks the kernel for lowerdir+ on a context that is thrown away.
func overlayAppends() bool {
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(ctx)
	return unix.FsconfigSetString(ctx, "lowerdir+", "/") == nil
}
