//go:build arm64 || (amd64 && purego)

package inflate

func (s *state) loop(loopKind) outcome { return s.loopGo() }
