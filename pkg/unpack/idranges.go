package unpack

import (
	"fmt"
	"os"
	"strings"
)

// idRanges are the ids of a user namespace. nil stands for all of them.
type idRanges []idRange

type idRange struct{ first, count uint32 }

// readRanges reads the first and third column of a uid_map (user_namespaces(7)).
// Where /proc does not tell, the kernel is going to be asked about every id.
func readRanges(file string) idRanges {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var ranges idRanges
	for line := range strings.Lines(string(text)) {
		var r idRange
		var outside uint32
		if _, err := fmt.Sscan(line, &r.first, &outside, &r.count); err != nil {
			return nil
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// has tells whether id is one that a file may have.
func (r idRanges) has(id uint32) bool {
	if id == noID {
		return false
	}
	for _, one := range r {
		if id >= one.first && id-one.first < one.count {
			return true
		}
	}
	return r == nil
}
