package apparmor

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// An element of a pattern is a set of bytes, once or any number of times.
type element struct {
	bytes [256]bool
	many  bool
}

// parse reads a pattern: ? is any byte but / and NUL, * any number of those, **
// of bytes but NUL, [a-z] a byte of a range. Patterns are this package's own.
func parse(pattern string) []element {
	set := func(has func(c int) bool, many bool) element {
		e := element{many: many}
		for c := range e.bytes {
			e.bytes[c] = has(c)
		}
		return e
	}
	var out []element
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*' && i+1 < len(pattern) && pattern[i+1] == '*':
			i++
			out = append(out, set(func(c int) bool { return c != 0 }, true))
		case c == '*' || c == '?':
			out = append(out, set(func(c int) bool { return c != 0 && c != '/' }, c == '*'))
		case c == '[' && i+4 < len(pattern) && pattern[i+2] == '-' && pattern[i+4] == ']':
			from, to := int(pattern[i+1]), int(pattern[i+3])
			out = append(out, set(func(c int) bool { return from <= c && c <= to }, false))
			i += 4
		default:
			out = append(out, set(func(b int) bool { return b == int(c) }, false))
		}
	}
	return out
}

// place is how far the bytes so far have come in a rule's pattern.
type place struct{ rule, at int }

// state is a state of an automaton.
type state struct {
	next [256]int
	rule int // that counts, -1 for none
}

// dfa is an automaton. State 0 is the end of all hope, state 1 the first.
type dfa struct{ states []state }

// compile makes the automaton in which a state knows the last rule whose pattern
// matches what was read.
func compile(rules []rule) *dfa {
	patterns := make([][]element, len(rules))
	first := []place{}
	for i, r := range rules {
		patterns[i] = parse(r.pattern)
		first = append(first, place{i, 0})
	}
	// What may be repeated may be left out.
	closed := func(set []place) []place {
		for i := 0; i < len(set); i++ {
			p := set[i]
			if p.at < len(patterns[p.rule]) && patterns[p.rule][p.at].many {
				if q := (place{p.rule, p.at + 1}); !slices.Contains(set, q) {
					set = append(set, q)
				}
			}
		}
		slices.SortFunc(set, func(a, b place) int { return (a.rule-b.rule)<<16 + a.at - b.at })
		return set
	}
	d := &dfa{states: make([]state, 1)}
	d.states[0].rule = -1
	numbers := map[string]int{"": 0}
	var sets [][]place // of states from 1 on
	number := func(set []place) int {
		set = closed(set)
		key := ""
		if len(set) > 0 {
			key = fmt.Sprint(set)
		}
		n, ok := numbers[key]
		if !ok {
			n = len(d.states)
			numbers[key] = n
			sets = append(sets, set)
			s := state{rule: -1}
			for _, p := range set {
				if p.at == len(patterns[p.rule]) {
					s.rule = max(s.rule, p.rule)
				}
			}
			d.states = append(d.states, s)
		}
		return n
	}
	number(first)
	for i := 0; i < len(sets); i++ {
		for c := range 256 {
			var after []place
			for _, p := range sets[i] {
				if p.at == len(patterns[p.rule]) || !patterns[p.rule][p.at].bytes[c] {
					continue
				}
				q := p
				if !patterns[p.rule][p.at].many {
					q.at++
				}
				if !slices.Contains(after, q) {
					after = append(after, q)
				}
			}
			d.states[i+1].next[c] = number(after)
		}
	}
	return d
}

// Tables of a packed automaton, which is flex's in big-endian order (match.h).
const (
	magic = 0x1b5e783d

	tableAccept  = 1
	tableBase    = 2
	tableCheck   = 3
	tableDefault = 4
	tableAccept2 = 7
	tableNext    = 8
)

// pack lays the rows of the automaton over each other: row s begins at base[s],
// check has whose each place is, and what is nobody's is default[s].
func (d *dfa) pack(accept func(rule int) (uint32, uint32)) []byte {
	n := len(d.states)
	accept1, accept2, base := make([]uint32, n), make([]uint32, n), make([]uint32, n)
	usual := make([]uint16, n)
	next, check := make([]uint16, 256), make([]uint16, 256) // those of state 0, which are nobody's
	for i := 1; i < n; i++ {
		s := &d.states[i]
		accept1[i], accept2[i] = accept(s.rule)
		counts := map[int]int{}
		for _, to := range s.next {
			counts[to]++
			if counts[to] > counts[int(usual[i])] {
				usual[i] = uint16(to)
			}
		}
		var own []int
		for c, to := range s.next {
			if to != int(usual[i]) {
				own = append(own, c)
			}
		}
		at := 0
		for slices.ContainsFunc(own, func(c int) bool { return at+c < len(check) && check[at+c] != 0 }) {
			at++
		}
		if grow := at + 256 - len(check); grow > 0 {
			next, check = append(next, make([]uint16, grow)...), append(check, make([]uint16, grow)...)
		}
		base[i] = uint32(at)
		for _, c := range own {
			next[at+c], check[at+c] = uint16(s.next[c]), uint16(i)
		}
	}
	const header = 24 // with a version, and its end aligned
	out := binary.BigEndian.AppendUint32(nil, magic)
	out = binary.BigEndian.AppendUint32(out, header)
	out = append(out, make([]byte, header-8)...)
	add := func(id uint16, width int, length int, data any) {
		start := len(out)
		out = binary.BigEndian.AppendUint16(out, id)
		out = binary.BigEndian.AppendUint16(out, uint16(width))
		out = binary.BigEndian.AppendUint32(out, 0)
		out = binary.BigEndian.AppendUint32(out, uint32(length))
		out, _ = binary.Append(out, binary.BigEndian, data) // fails for types of no fixed size
		for (len(out)-start)%8 != 0 {
			out = append(out, 0)
		}
	}
	add(tableAccept, 4, n, accept1)
	add(tableAccept2, 4, n, accept2)
	add(tableBase, 4, n, base)
	add(tableDefault, 2, n, usual)
	add(tableNext, 2, len(next), next)
	add(tableCheck, 2, len(check), check)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)))
	return out
}
