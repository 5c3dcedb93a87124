package seccomp

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// condition compares one argument of the call.
type condition struct {
	arg   uint
	op    specs.LinuxSeccompOperator
	value uint64 // the mask, for SCMP_CMP_MASKED_EQ
	two   uint64
}

// rule is one way a call gets a verdict: all conditions hold.
type rule struct {
	all     []condition
	verdict uint32
}

// rulesFor maps call numbers of a to rules in the order of the profile. A call
// with an unconditional rule has that one alone: as in libseccomp, the broader
// rule wins over those with conditions, the first over later ones.
func rulesFor(profile *specs.LinuxSeccomp, a *arch) (map[uint32][]rule, error) {
	numbers := a.numbers()
	rules := map[uint32][]rule{}
	settled := map[uint32]bool{}
	add := func(nr uint32, r rule) {
		switch {
		case settled[nr]:
		case len(r.all) == 0:
			settled[nr] = true
			rules[nr] = []rule{r}
		default:
			rules[nr] = append(rules[nr], r)
		}
	}
	for i, call := range profile.Syscalls {
		v, err := verdict(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, err
		}
		alternatives, err := alternatives(call.Args, a)
		if err != nil {
			return nil, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
		for _, name := range call.Names {
			if sub, ok := a.socketcalls[name]; ok && len(call.Args) == 0 {
				// i386 also reaches the socket calls through one call that takes
				// which of them as its first argument; the arguments proper lie in
				// memory, where no filter can look.
				add(numbers["socketcall"], rule{[]condition{{0, specs.OpEqualTo, sub, 0}}, v})
			}
			nr, ok := numbers[name]
			if !ok {
				continue
			}
			for _, all := range alternatives {
				add(nr, rule{all, v})
			}
		}
	}
	return rules, nil
}

// alternatives turns the args of one entry into lists of conditions of which
// one must hold whole. The entries of args are joined by "and", unless two of
// them look at the same argument: then, as runc has it, each stands alone.
func alternatives(args []specs.LinuxSeccompArg, a *arch) ([][]condition, error) {
	var all []condition
	seen := map[uint]bool{}
	repeated := false
	for _, arg := range args {
		if arg.Index > 5 {
			return nil, &UnsupportedError{fmt.Sprintf("argument %d of a call that has six", arg.Index)}
		}
		switch arg.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
			specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		default:
			return nil, &UnsupportedError{fmt.Sprintf("operator %q", arg.Op)}
		}
		repeated = repeated || seen[arg.Index]
		seen[arg.Index] = true
		c := condition{arg.Index, arg.Op, arg.Value, arg.ValueTwo}
		if a.narrow {
			c.value, c.two = uint64(uint32(c.value)), uint64(uint32(c.two))
		}
		all = append(all, c)
	}
	if !repeated {
		return [][]condition{all}, nil
	}
	each := make([][]condition, len(all))
	for i, c := range all {
		each[i] = []condition{c}
	}
	return each, nil
}
