package mountfd

import (
	"fmt"
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
	p := paths{}
	defer p.close()
	var params []string
	// "lowerdir+" takes one layer at a time, with any characters and without a
	// bound for all (Linux 6.7); before, they are one string.
	if overlayAppends() {
		for _, l := range o.Lower {
			params = append(params, "lowerdir+="+p.name(l, maxValue))
		}
	} else {
		escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
		var all []string
		for _, l := range o.Lower {
			all = append(all, escape.Replace(p.name(l, (maxValue/len(o.Lower)-1)/2)))
		}
		lower := strings.Join(all, ":")
		if p.err == nil && len(lower) > maxValue {
			return -1, fmt.Errorf("%d layers are more than an overlay can have before Linux 6.7", len(all))
		}
		params = append(params, "lowerdir="+lower)
	}
	attr := unix.MOUNT_ATTR_RDONLY
	if o.Upper != "" {
		params = append(params, "upperdir="+p.name(o.Upper, maxValue), "workdir="+p.name(o.Work, maxValue))
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
	if p.err != nil {
		return -1, p.err
	}
	return NewFS("overlay", "overlay", params, attr)
}

// overlayAppends asks the kernel for lowerdir+ on a context that is thrown away.
// Before overlayfs took its words one by one (Linux 6.5), they were collected
// without a look at them until the mount: then any word is fine.
func overlayAppends() bool {
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(ctx)
	return unix.FsconfigSetString(ctx, "peel-no-such-word", "/") != nil && unix.FsconfigSetString(ctx, "lowerdir+", "/") == nil
}

// maxValue is the longest string that fsconfig(2) takes.
const maxValue = 255

// paths are directories by names that the kernel takes.
type paths struct {
	open []int
	err  error // the first
}

// name returns path, or another name of it where that is longer than most or has
// a comma, which old kernels take for the end of an option.
func (p *paths) name(path string, most int) string {
	if len(path) <= most && !strings.Contains(path, ",") {
		return path
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		if p.err == nil {
			p.err = err
		}
		return path
	}
	p.open = append(p.open, fd)
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

func (p *paths) close() {
	for _, fd := range p.open {
		unix.Close(fd)
	}
}
