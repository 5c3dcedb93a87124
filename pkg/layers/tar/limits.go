package tar

import (
	"errors"
	"fmt"
)

// Limits bounds what one archive can make the Reader hold or go through. A zero
// field stands for the default named beside it. Exceeding one is a *LimitError.
type Limits struct {
	Meta       int64 // bytes of one extended header, long name or sparse map: 1 MiB
	Name       int   // bytes of a name or a link's target: 4096, PATH_MAX
	Xattrs     int   // extended attributes of an entry: 256
	XattrName  int   // bytes of an attribute's name: 255, XATTR_NAME_MAX
	XattrValue int   // bytes of an attribute's value: 64 KiB, XATTR_SIZE_MAX
	XattrTotal int   // bytes of all names and values of an entry: 256 KiB
	Extents    int   // data regions of a sparse file: 65536
	Headers    int64 // header blocks in the archive, of all kinds: 16 Mi
	Total      int64 // bytes of the archive, as its headers promise them: 1 TiB
}

func (l Limits) withDefaults() Limits {
	orElse(&l.Meta, 1<<20)
	orElse(&l.Name, 4096)
	orElse(&l.Xattrs, 256)
	orElse(&l.XattrName, 255)
	orElse(&l.XattrValue, 64<<10)
	orElse(&l.XattrTotal, 256<<10)
	orElse(&l.Extents, 64<<10)
	orElse(&l.Headers, 16<<20)
	orElse(&l.Total, 1<<40)
	return l
}

func orElse[T int | int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// LimitError reports that an archive goes beyond one of the Limits.
type LimitError struct {
	What       string // what there is too much of, such as "bytes of a name"
	Got, Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d %s, the limit is %d", e.Got, e.What, e.Limit)
}

// ErrHeader is what every complaint about a malformed header wraps.
var ErrHeader = errors.New("malformed tar header")

// malformed says what is wrong with the header at hand.
func malformed(what string) error { return fmt.Errorf("%w: %s", ErrHeader, what) }

// Error says where in an archive something went wrong: ErrHeader, a *LimitError,
// io.ErrUnexpectedEOF for an archive cut short, or what the Source returned.
type Error struct {
	Offset int64  // in the stream: the header at fault, or the place where it broke off
	Name   string // of the entry, as far as it was known; empty if it was not
	Err    error
}

func (e *Error) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("tar offset %d: %v", e.Offset, e.Err)
	}
	return fmt.Sprintf("tar offset %d: entry %q: %v", e.Offset, e.Name, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
