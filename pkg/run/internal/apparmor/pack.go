package apparmor

import "encoding/binary"

// Codes of values in a packed policy (enum aa_code in policy_unpack.h).
const (
	codeU32 = iota + 2
	codeU64
	codeName
	codeString
	codeBlob
	codeStruct
	codeStructEnd
)

// version 5 is the first with a policy for more than files, which every kernel
// since 2012 reads.
const version = 5

const (
	// A path whose place cannot be known is taken for one below the root, as are
	// those of descriptors from outside; and a file that was deleted has the
	// rules of the name that it had.
	pathFlags = 0x4 | 0x10000

	everyCapability = 1<<41 - 1
)

// writer packs values, each in little-endian order behind its code.
type writer []byte

func (w *writer) name(s string) {
	*w = append(*w, codeName)
	*w = binary.LittleEndian.AppendUint16(*w, uint16(len(s)+1))
	*w = append(append(*w, s...), 0)
}

func (w *writer) u32(v uint32) { *w = binary.LittleEndian.AppendUint32(append(*w, codeU32), v) }

func (w *writer) text(s string) {
	*w = append(*w, codeString)
	*w = binary.LittleEndian.AppendUint16(*w, uint16(len(s)+1))
	*w = append(append(*w, s...), 0)
}

func (w *writer) structure(name string, fill func()) {
	w.name(name)
	*w = append(*w, codeStruct)
	fill()
	*w = append(*w, codeStructEnd)
}

// automaton writes a blob. What is in it begins at a multiple of 8 bytes, counted
// from the beginning of the policy.
func (w *writer) automaton(b []byte) {
	w.name("aadfa")
	*w = append(*w, codeBlob)
	pad := -(len(*w) + 4) & 7
	*w = binary.LittleEndian.AppendUint32(*w, uint32(pad+len(b)))
	*w = append(append(*w, make([]byte, pad)...), b...)
}

// pack makes what the kernel loads.
func (p Policy) pack(name string) []byte {
	other := p.other(name)
	files := compile(withLinks(p.files))
	w := &writer{}
	w.name("version")
	w.u32(version)
	w.structure("profile", func() {
		w.text(name)
		w.structure("flags", func() {
			w.u32(0) // no hat
			w.u32(0) // enforced
			w.u32(0) // only refusals are logged
		})
		w.name("path_flags")
		w.u32(pathFlags)
		const low, high = everyCapability & 0xffffffff, everyCapability >> 32
		for _, v := range []uint32{low, 0, 0, 0} { // allowed, logged, quiet, and one no longer used
			w.u32(v)
		}
		w.structure("caps64", func() {
			for _, v := range []uint32{high, 0, 0, 0} {
				w.u32(v)
			}
		})
		w.structure("policydb", func() {
			w.automaton(compile(other).pack(func(rule int) (uint32, uint32) {
				if rule < 0 {
					return 0, 0
				}
				return uint32(other[rule].perms), 0
			}))
			w.name("start")
			w.u32(1)
		})
		w.automaton(files.pack(func(rule int) (uint32, uint32) {
			if rule < 0 {
				return 0, 0
			}
			return filePerms(withLinks(p.files)[rule].perms)
		}))
		w.name("dfa_start")
		w.u32(1)
	})
	return *w
}

// withLinks adds the second half of what the kernel asks for a hard link: the new
// name, a NUL and the old one. Where the new name may be made, any old one may be
// linked to that gives no more than the new.
func withLinks(files []rule) []rule {
	var out []rule
	for _, r := range files {
		pair := rule{r.pattern + "\x00**", 0}
		if r.perms&link != 0 {
			pair.perms = link | lock
		}
		out = append(out, r, pair)
	}
	return out
}

// filePerms are the permissions for the owner of a file and for others, 14 bits
// each: seven for what is allowed, and how to execute. What is not allowed is
// refused in silence: with a container's programs, which look around, a log would
// be full of it.
func filePerms(p perms) (accept, quiet uint32) {
	const inherit = 0x200 // what is executed has this profile too
	allowed := uint32(p)
	if p&execute != 0 {
		allowed |= inherit
	}
	refused := uint32(all&^p) << 7
	return allowed | allowed<<14, refused | refused<<14
}
