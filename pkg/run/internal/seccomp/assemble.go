package seccomp

import (
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data. Arguments are 64 bits in the machine's byte
// order; both supported machines are little-endian.
const (
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
)

// asm writes a program from its last instruction to its first. BPF only jumps
// forward, so every target is already placed when its jump is written.
type asm struct {
	reversed []unix.SockFilter
}

// label is a place in asm.reversed.
type label int

func (p *asm) emit(code uint16, k uint32, jt, jf uint8) label {
	p.reversed = append(p.reversed, unix.SockFilter{Code: code, K: k, Jt: jt, Jf: jf})
	return label(len(p.reversed) - 1)
}

// distance is the jump offset from the next instruction written to l.
func (p *asm) distance(l label) int { return len(p.reversed) - 1 - int(l) }

// reach returns a place with the effect of l that a conditional jump can reach
// even when up to one more instruction is written before it.
func (p *asm) reach(l label) label {
	if p.distance(l) < 250 {
		return l
	}
	if far := p.reversed[l]; far.Code == unix.BPF_RET|unix.BPF_K {
		return p.emit(far.Code, far.K, 0, 0)
	}
	return p.emit(unix.BPF_JMP|unix.BPF_JA, uint32(p.distance(l)), 0, 0)
}

func (p *asm) jump(op uint16, k uint32, yes, no label) label {
	yes, no = p.reach(yes), p.reach(no)
	return p.emit(unix.BPF_JMP|op|unix.BPF_K, k, uint8(p.distance(yes)), uint8(p.distance(no)))
}

func (p *asm) load(offset uint32) label {
	return p.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, 0, 0)
}
func (p *asm) ret(verdict uint32) label { return p.emit(unix.BPF_RET|unix.BPF_K, verdict, 0, 0) }

// block is where the program for the calls of one architecture begins.
type block struct {
	arch *arch
	at   label
}

// archs writes the head of the program: which architecture is calling. The
// blocks of one audit arch (x86_64 and x32) are told apart by a bit of the call
// number. A calling convention that the profile does not name is fatal, as a
// call in it would mean something else.
func (p *asm) archs(blocks []block) {
	kill := p.ret(unix.SECCOMP_RET_KILL_PROCESS)
	next := kill
	for len(blocks) > 0 {
		audit := blocks[0].arch.audit
		plain, x32 := kill, kill
		var rest []block
		for _, b := range blocks {
			switch {
			case b.arch.audit != audit:
				rest = append(rest, b)
			case b.arch.bit != 0:
				x32 = b.at
			default:
				plain = b.at
			}
		}
		if audit == unix.AUDIT_ARCH_X86_64 {
			p.jump(unix.BPF_JGE, x32Bit, x32, plain)
		} else {
			p.emit(unix.BPF_JMP|unix.BPF_JA, uint32(p.distance(plain)), 0, 0)
		}
		at := p.load(offsetNr)
		next = p.jump(unix.BPF_JEQ, audit, at, next)
		blocks = rest
	}
	p.load(offsetArch)
}

// firstPrivate is where arm numbers its own calls; nothing newer goes there.
const firstPrivate = 0x0f0000

// calls writes the program for the calls of one architecture and returns where
// it begins. The call number is loaded on entry.
func (p *asm) calls(a *arch, rules map[uint32][]rule, fallback, newer uint32) label {
	w := writer{asm: p, rets: map[uint32]label{}, fallback: fallback}
	numbers := slices.Sorted(maps.Keys(rules))
	var newest uint32
	for _, nr := range numbers {
		if nr < firstPrivate {
			newest = nr
		}
	}
	gap := func(from uint32) uint32 {
		if from <= newest {
			return fallback
		}
		return newer
	}
	// Neighbours with one target become one span: most calls are allowed, so
	// the tree is an order of magnitude smaller than the profile.
	var spans []span
	add := func(from uint32, target label) {
		if len(spans) == 0 || spans[len(spans)-1].target != target {
			spans = append(spans, span{from, target})
		}
	}
	var end uint32
	for _, nr := range numbers {
		if nr > end {
			add(end, w.ret(gap(end)))
		}
		add(nr, w.call(rules[nr]))
		end = nr + 1
	}
	add(end, w.ret(gap(end)))
	return p.tree(spans, a.bit)
}

// span is a run of call numbers, up to the next span, with one target.
type span struct {
	from   uint32
	target label
}

func (p *asm) tree(s []span, bit uint32) label {
	if len(s) == 1 {
		return s[0].target
	}
	mid := len(s) / 2
	right := p.tree(s[mid:], bit)
	left := p.tree(s[:mid], bit)
	return p.jump(unix.BPF_JGE, s[mid].from|bit, right, left)
}

// writer writes the rules of calls.
type writer struct {
	*asm
	rets     map[uint32]label
	fallback uint32
}

// ret returns the one place of a verdict in this block, so that spans compare
// by target.
func (w *writer) ret(verdict uint32) label {
	l, ok := w.rets[verdict]
	if !ok {
		l = w.asm.ret(verdict)
		w.rets[verdict] = l
	}
	return l
}

func (w *writer) call(rules []rule) label {
	next := w.ret(w.fallback)
	for _, r := range slices.Backward(rules) {
		at := w.ret(r.verdict)
		for _, c := range slices.Backward(r.all) {
			at = w.condition(c, at, next)
		}
		next = at
	}
	return next
}

// condition compares 64 bits in halves, the upper half first.
func (w *writer) condition(c condition, yes, no label) label {
	hi, lo := uint32(c.value>>32), uint32(c.value)
	switch c.op {
	case specs.OpEqualTo:
		return w.halves(c.arg, unix.BPF_JEQ, hi, lo, yes, no)
	case specs.OpNotEqual:
		return w.halves(c.arg, unix.BPF_JEQ, hi, lo, no, yes)
	case specs.OpGreaterEqual:
		return w.halves(c.arg, unix.BPF_JGE, hi, lo, yes, no)
	case specs.OpLessThan:
		return w.halves(c.arg, unix.BPF_JGE, hi, lo, no, yes)
	case specs.OpGreaterThan:
		return w.halves(c.arg, unix.BPF_JGT, hi, lo, yes, no)
	case specs.OpLessEqual:
		return w.halves(c.arg, unix.BPF_JGT, hi, lo, no, yes)
	case specs.OpMaskedEqual:
		w.jump(unix.BPF_JEQ, uint32(c.two), yes, no)
		w.and(lo)
		at := w.load(argument(c.arg))
		w.jump(unix.BPF_JEQ, uint32(c.two>>32), at, no)
		w.and(hi)
		return w.load(argument(c.arg) + 4)
	}
	panic("seccomp: operator " + string(c.op) + " was let through")
}

// halves writes "argument op hi:lo". For an order, unequal upper halves decide.
func (w *writer) halves(arg uint, op uint16, hi, lo uint32, yes, no label) label {
	w.jump(op, lo, yes, no)
	low := w.load(argument(arg))
	equal := w.jump(unix.BPF_JEQ, hi, low, no)
	if op != unix.BPF_JEQ {
		w.jump(unix.BPF_JGT, hi, yes, equal)
	}
	return w.load(argument(arg) + 4)
}

func (p *asm) and(mask uint32) label { return p.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, mask, 0, 0) }

func argument(n uint) uint32 { return offsetArgs + 8*uint32(n) }
