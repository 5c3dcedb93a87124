// Command asm writes blocks2 of package hashes, for amd64 with the SHA extensions.
//
// Run go generate in the directory above; the output is committed.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/buildtags"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// lane is what belongs to one of the two streams. The state is in the order that
// SHA256RNDS2 wants: words A, B, E, F in one register, C, D, G, H in the other,
// from the highest down. The schedule has the last 16 words of the message.
type lane struct {
	state, data reg.Register
	abef, cdgh  reg.VecVirtual
	schedule    [4]reg.VecVirtual
	saved       Mem // the state before the block
}

// roundConstants are FIPS 180-4's (4.2.2).
var roundConstants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

func main() {
	Constraint(buildtags.Not("purego"))
	blocks2()
	hasSHA()
	Generate()
}

func blocks2() {
	TEXT("blocks2", NOSPLIT, "func(n int, state0 *[8]uint32, data0 *byte, state1 *[8]uint32, data1 *byte)")
	Doc("blocks2 hashes n blocks, at least one, of two streams, one round of each in turns.")

	bigEndian := GLOBL("bigEndian", RODATA|NOPTR)
	for word := range 4 {
		for i := range 4 {
			DATA(4*word+i, U8(4*word+3-i))
		}
	}
	constants := GLOBL("constants", RODATA|NOPTR)
	for i, k := range roundConstants {
		DATA(4*i, U32(k))
	}

	n := Load(Param("n"), GP64())
	lanes := [2]lane{newLane("0"), newLane("1")}
	k := GP64()
	LEAQ(constants, k)

	Label("block")
	for _, l := range lanes {
		MOVOU(l.abef, l.saved)
		MOVOU(l.cdgh, l.saved.Offset(16))
	}
	for i := range 16 { // four rounds each
		for _, l := range lanes {
			last, now, next := l.schedule[(i+3)%4], l.schedule[i%4], l.schedule[(i+1)%4]
			if i < 4 {
				MOVOU(Mem{Base: l.data}.Offset(16*i), now)
				VPSHUFB(bigEndian, now, now)
			}
			// The instruction has X0 as a hidden operand; renaming keeps the
			// lanes apart. VPADDD because its operand in memory need not be aligned.
			VPADDD(Mem{Base: k}.Offset(16*i), now, reg.X0)
			SHA256RNDS2(reg.X0, l.abef, l.cdgh)
			if i >= 3 && i < 15 {
				sigma := XMM()
				VPALIGNR(U8(4), last, now, sigma)
				PADDD(sigma, next)
				SHA256MSG2(now, next)
			}
			PSHUFD(U8(0x0e), reg.X0, reg.X0)
			SHA256RNDS2(reg.X0, l.cdgh, l.abef)
			if i >= 1 && i < 13 {
				SHA256MSG1(now, last)
			}
		}
	}
	for _, l := range lanes {
		VPADDD(l.saved, l.abef, l.abef)
		VPADDD(l.saved.Offset(16), l.cdgh, l.cdgh)
		ADDQ(U8(64), l.data)
	}
	DECQ(n)
	JNZ(LabelRef("block"))
	for _, l := range lanes {
		l.store()
	}
	RET()
}

// newLane loads a stream's arguments and its state.
func newLane(number string) lane {
	l := lane{
		state: Load(Param("state"+number), GP64()),
		data:  Load(Param("data"+number), GP64()),
		abef:  XMM(), cdgh: XMM(),
		saved: AllocLocal(32),
	}
	for i := range l.schedule {
		l.schedule[i] = XMM()
	}
	badc := XMM() // words from the highest down, as ever
	MOVOU(Mem{Base: l.state}, badc)
	PSHUFD(U8(0xb1), badc, badc) // DCBA -> CDAB
	MOVOU(Mem{Base: l.state}.Offset(16), l.cdgh)
	PSHUFD(U8(0x1b), l.cdgh, l.cdgh) // HGFE -> EFGH
	MOVOU(badc, l.abef)
	PALIGNR(U8(8), l.cdgh, l.abef)
	PBLENDW(U8(0xf0), badc, l.cdgh)
	return l
}

// store writes the state back.
func (l lane) store() {
	feba, dcba := XMM(), XMM()
	PSHUFD(U8(0x1b), l.abef, feba)
	PSHUFD(U8(0xb1), l.cdgh, l.cdgh) // CDGH -> DCHG
	MOVOU(feba, dcba)
	PBLENDW(U8(0xf0), l.cdgh, dcba)
	PALIGNR(U8(8), feba, l.cdgh)
	MOVOU(dcba, Mem{Base: l.state})
	MOVOU(l.cdgh, Mem{Base: l.state}.Offset(16))
}

// hasSHA asks the processor: leaf 7's EBX has the SHA extensions at bit 29.
func hasSHA() {
	TEXT("hasSHA", NOSPLIT, "func() bool")
	Doc("hasSHA tells whether the processor has the SHA extensions.")
	XORL(reg.EAX, reg.EAX)
	CPUID()
	CMPL(reg.EAX, U8(7))
	JB(LabelRef("no"))
	MOVL(U32(7), reg.EAX)
	XORL(reg.ECX, reg.ECX)
	CPUID()
	BTL(U8(29), reg.EBX)
	SETCS(reg.AL)
	Store(reg.AL, ReturnIndex(0))
	RET()
	Label("no")
	XORL(reg.EAX, reg.EAX)
	Store(reg.AL, ReturnIndex(0))
	RET()
}
