// Command asm writes the fast loop of package inflate for amd64 with BMI2.
//
// It is loopGo, step by step; fast.go has the sums that keep it in its buffers.
// Run go generate in the directory above; the output is committed.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/buildtags"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets in inflate.state; loop_amd64.go holds them against the compiler's.
const (
	offIn      = 0
	offInPos   = 8
	offInEnd   = 16
	offOut     = 24
	offOutPos  = 32
	offOutEnd  = 40
	offBits    = 48
	offNumBits = 56
	offLitMask = 64
	offLit     = 72
	offDist    = 72 + 4*2342
)

// Entries and outcomes, as in table.go and fast.go.
const (
	entryRare     = 15
	entrySubtable = 14
	entryInvalid  = 12

	outOfRoom   = 0
	endOfBlock  = 1
	badSymbol   = 2
	badDistance = 3
	tooFar      = 4
)

// The variables of loopGo. e and used are 32 and 64 bits of their own registers.
var (
	s, in, out       reg.GPVirtual
	bits, left, mask reg.GPVirtual
	e, used          reg.GPVirtual
	three            reg.GPVirtual // BEXTR's bits 3-5
)

func main() {
	Constraint(buildtags.Not("purego"))

	steps, shuffles := periods()

	TEXT("loopBMI2", NOSPLIT, "func(s *byte) int") // as wide as *state and outcome
	Doc("loopBMI2 is loopGo for processors with BMI1, BMI2 and SSSE3.")
	s, in, out = GP64(), GP64(), GP64()
	bits, left, mask = GP64(), GP64(), GP64()
	e, used, three = GP64(), GP64(), GP64()
	t := GP64()

	Load(Param("s"), s)
	inEnd, outEnd, outBase := AllocLocal(8), AllocLocal(8), field(offOut)
	MOVQ(field(offIn), in)
	MOVQ(field(offInEnd), t)
	ADDQ(in, t)
	MOVQ(t, inEnd)
	ADDQ(field(offInPos), in)
	MOVQ(outBase, out)
	MOVQ(field(offOutEnd), t)
	ADDQ(out, t)
	MOVQ(t, outEnd)
	ADDQ(field(offOutPos), out)
	MOVQ(field(offBits), bits)
	MOVQ(field(offNumBits), left)
	MOVQ(field(offLitMask), mask)
	MOVL(U32(3|3<<8), three.As32())

	refill()
	preload()

	align(32)
	Label("turn")
	CMPQ(in, inEnd)
	JAE(LabelRef("room"))
	CMPQ(out, outEnd)
	JAE(LabelRef("room"))

	// A literal, and a second or the beginning of a match.
	consume(true)
	TESTL(e.As32(), e.As32())
	JNS(LabelRef("notLiteral"))
	literal()
	preload()
	consume(true)
	TESTL(e.As32(), e.As32())
	JNS(LabelRef("notLiteral"))
	Label("lastLiteral")
	literal()
	preload()
	refill()
	JMP(LabelRef("turn"))

	Label("notLiteral")
	BTL(U8(entryRare), e.As32())
	JC(LabelRef("rareSymbol"))

	Label("length")
	length := GP64()
	value(length, used)

	// The distance.
	MOVBLZX(bits.As8(), t.As32())
	MOVL(Mem{Base: s, Index: t, Scale: 4, Disp: offDist}, e.As32())
	BTL(U8(entryRare), e.As32())
	JC(LabelRef("rareDistance"))
	Label("knownDistance")
	distance, from, to := GP64(), GP64(), GP64()
	value(distance, bits)
	consume(false)
	MOVQ(out, to)
	MOVQ(out, from)
	SUBQ(distance, from)
	CMPQ(from, outBase)
	JB(LabelRef("tooFar"))

	// The next entry before the copy.
	preload()
	refill()
	ADDQ(length, out)
	CMPQ(distance, U8(16))
	JB(LabelRef("shortDistance"))
	x := XMM()
	MOVUPS(Mem{Base: from}, x)
	MOVUPS(x, Mem{Base: to})
	MOVUPS(Mem{Base: from, Disp: 16}, x)
	MOVUPS(x, Mem{Base: to, Disp: 16})
	CMPQ(length, U8(32))
	JBE(LabelRef("turn"))
	Label("copyMore")
	MOVUPS(Mem{Base: from, Disp: 32}, x)
	MOVUPS(x, Mem{Base: to, Disp: 32})
	ADDQ(U8(16), from)
	ADDQ(U8(16), to)
	LEAQ(Mem{Base: to, Disp: 32}, t)
	CMPQ(t, out)
	JB(LabelRef("copyMore"))
	JMP(LabelRef("turn"))

	// A period of less than 16 bytes is repeated in a register; as many bytes
	// as hold it a whole number of times go at a time.
	Label("shortDistance")
	step, row := GP64(), GP64()
	LEAQ(steps, t)
	MOVBQZX(Mem{Base: t, Index: distance, Scale: 1}, step)
	LEAQ(shuffles, row)
	SHLQ(U8(4), distance)
	MOVUPS(Mem{Base: from}, x)
	PSHUFB(Mem{Base: row, Index: distance, Scale: 1}, x)
	Label("copyPeriod")
	MOVUPS(x, Mem{Base: to})
	ADDQ(step, to)
	CMPQ(to, out)
	JB(LabelRef("copyPeriod"))
	JMP(LabelRef("turn"))

	// A subtable, the block's end, or no symbol.
	Label("rareSymbol")
	BTL(U8(entrySubtable), e.As32())
	JNC(LabelRef("notSymbol"))
	subtable(offLit)
	consume(true)
	TESTL(e.As32(), e.As32())
	JS(LabelRef("lastLiteral"))
	BTL(U8(entryRare), e.As32())
	JNC(LabelRef("length"))
	Label("notSymbol")
	BTL(U8(entryInvalid), e.As32())
	how := GP64()
	MOVQ(U32(endOfBlock), how)
	JNC(LabelRef("done"))
	MOVQ(U32(badSymbol), how)
	JMP(LabelRef("done"))

	Label("rareDistance")
	BTL(U8(entrySubtable), e.As32())
	JNC(LabelRef("notDistance"))
	refill()
	SHRQ(U8(8), bits)
	SUBL(U8(8), left.As32())
	subtable(offDist)
	BTL(U8(entryRare), e.As32())
	JNC(LabelRef("knownDistance"))
	Label("notDistance")
	consume(false)
	MOVQ(U32(badDistance), how)
	JMP(LabelRef("done"))

	Label("tooFar")
	MOVQ(U32(tooFar), how)
	JMP(LabelRef("done"))

	Label("room")
	MOVQ(U32(outOfRoom), how)

	Label("done")
	SUBQ(field(offIn), in)
	SUBQ(outBase, out)
	MOVQ(in, field(offInPos))
	MOVQ(out, field(offOutPos))
	MOVQ(bits, field(offBits))
	MOVQ(left, field(offNumBits))
	Store(how, ReturnIndex(0))
	RET()

	Generate()
}

func field(offset int) Mem { return Mem{Base: s, Disp: offset} }

// refill adds as many whole bytes to bits as fit.
func refill() {
	t := GP64()
	MOVQ(Mem{Base: in}, t)
	SHLXQ(left, t, t)
	ORQ(t, bits)
	n := GP64()
	BEXTRL(three.As32(), left.As32(), n.As32())
	ADDQ(U8(7), in)
	SUBQ(n, in)
	ORL(U8(56), left.As32())
}

// preload looks up the entry of the next literal or length.
func preload() {
	t := GP64()
	MOVQ(mask, t)
	ANDQ(bits, t)
	MOVL(Mem{Base: s, Index: t, Scale: 4, Disp: offLit}, e.As32())
}

// consume uses up an entry's bits, after keeping them if told so.
func consume(keep bool) {
	if keep {
		MOVQ(bits, used)
	}
	SHRXQ(e, bits, bits)
	SUBL(e.As32(), left.As32())
}

// literal stores an entry's byte.
func literal() {
	SHRL(U8(16), e.As32())
	MOVB(e.As8(), Mem{Base: out})
	INCQ(out)
}

// value sets to to the length or distance of an entry whose bits are lowest in
// from.
func value(to, from reg.GPVirtual) {
	shift := GP64()
	BZHIQ(e, from, to)
	MOVL(e.As32(), shift.As32())
	SHRL(U8(8), shift.As32())
	SHRXQ(shift, to, to)
	base := GP64()
	MOVL(e.As32(), base.As32())
	SHRL(U8(16), base.As32())
	ADDQ(base, to)
}

// subtable replaces a pointer's entry by the one that the next bits choose.
func subtable(table int) {
	width, at := GP64(), GP64()
	MOVL(e.As32(), width.As32())
	SHRL(U8(8), width.As32())
	ANDL(U8(15), width.As32())
	BZHIQ(width, bits, at)
	SHRL(U8(16), e.As32())
	ANDL(U32(0x3fff), e.As32())
	ADDQ(e, at)
	MOVL(Mem{Base: s, Index: at, Scale: 4, Disp: table}, e.As32())
}

// periods are, for each distance below 16, how far a register's 16 bytes go and
// which of them stand in it.
func periods() (steps, shuffles Mem) {
	steps = GLOBL("steps", RODATA|NOPTR)
	for d := range 16 {
		step := 16
		if d > 0 {
			step = 16 - 16%d
		}
		DATA(d, U8(step))
	}
	shuffles = GLOBL("shuffles", RODATA|NOPTR)
	for d := range 16 {
		for j := range 16 {
			from := j
			if d > 0 {
				from = j % d
			}
			DATA(16*d+j, U8(from))
		}
	}
	return steps, shuffles
}

// align starts the next instruction at a multiple of n, as the front end likes
// its loops. avo has no name for this directive.
func align(n int) {
	Instruction(&ir.Instruction{Opcode: "PCALIGN", Operands: []Op{Imm(uint64(n))}})
}
