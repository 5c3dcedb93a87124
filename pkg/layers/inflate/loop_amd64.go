//go:build amd64 && !purego

package inflate

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:generate sh -c "cd asm && go run . -out ../loop_amd64.s"

// loopBMI2 is loopGo in assembly, which asm/ generates.
//
//go:noescape
func loopBMI2(s *state) outcome

func (s *state) loop(using loopKind) outcome {
	if using == bestLoop && cpu.X86.HasBMI1 && cpu.X86.HasBMI2 && cpu.X86.HasSSSE3 {
		return loopBMI2(s)
	}
	return s.loopGo()
}

// What the generator assumes; another layout does not compile.
var (
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.in)-0]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.inPos)-8]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.inEnd)-16]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.out)-24]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.outPos)-32]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.outEnd)-40]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.bits)-48]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.numBits)-56]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.litMask)-64]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.lit)-72]
	_ = [1]struct{}{}[unsafe.Offsetof(state{}.dist)-72-4*litTable]
	_ = [1]struct{}{}[litTable-2342]
)
