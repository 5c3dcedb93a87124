//go:build arm64 || amd64

package inflate

func (s *state) loop(loopKind) outcome { return s.loopGo() }
