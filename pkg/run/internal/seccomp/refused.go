package seccomp

import (
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Refused names the calls that a profile refuses on this machine, in the order of
// their numbers: whatever their arguments are, and with some of them.
func Refused(profile *specs.LinuxSeccomp) (always, sometimes []string, err error) {
	return refusedFor(profile, runtime.GOARCH)
}

func refusedFor(profile *specs.LinuxSeccomp, goarch string) (always, sometimes []string, err error) {
	if profile == nil {
		return nil, nil, nil
	}
	archs, err := selectArchs(profile.Architectures, goarch)
	if err != nil {
		return nil, nil, err
	}
	fallback, err := verdict(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, nil, err
	}
	own := archs[0]
	rules, err := rulesFor(profile, own)
	if err != nil {
		return nil, nil, err
	}
	for nr, name := range own.names {
		if name == "" {
			continue
		}
		may, mayNot := !refuses(fallback), refuses(fallback)
		for _, r := range rules[uint32(nr)] {
			if len(r.all) == 0 {
				may, mayNot = false, false // it is the only one
			}
			may, mayNot = may || !refuses(r.verdict), mayNot || refuses(r.verdict)
		}
		switch {
		case mayNot && may:
			sometimes = append(sometimes, name)
		case mayNot:
			always = append(always, name)
		}
	}
	return always, sometimes, nil
}

func refuses(verdict uint32) bool {
	switch verdict & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG:
		return false
	}
	return true
}
