//go:build !amd64 && !arm64

package inflate

// Other processors decode with care alone.
const hasLoop = false

func (s *state) loop(loopKind) outcome { panic("inflate: no fast loop here") }

func (s *state) loopMarked() outcome { panic("inflate: no fast loop here") }
