package apparmor

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// slow is the plain rule: the last pattern that matches.
func slow(rules []rule, word string) int {
	for i := len(rules) - 1; i >= 0; i-- {
		var re strings.Builder
		re.WriteString(`(?s)\A`)
		p := rules[i].pattern
		for len(p) > 0 {
			switch {
			case strings.HasPrefix(p, "**"):
				re.WriteString(`[^\x00]*`)
				p = p[1:]
			case p[0] == '*':
				re.WriteString(`[^/\x00]*`)
			case p[0] == '?':
				re.WriteString(`[^/\x00]`)
			case p[0] == '[':
				re.WriteString(p[:5])
				p = p[4:]
			default:
				re.WriteString(regexp.QuoteMeta(p[:1]))
			}
			p = p[1:]
		}
		if regexp.MustCompile(re.String() + `\z`).MatchString(word) {
			return i
		}
	}
	return -1
}

// tables is a packed automaton, read as the kernel does (match.c).
type tables struct {
	ints map[uint16][]uint32
}

func unpack(t *testing.T, b []byte) tables {
	t.Helper()
	if binary.BigEndian.Uint32(b) != magic {
		t.Fatalf("begins with %x", b[:4])
	}
	out := tables{map[uint16][]uint32{}}
	for b = b[binary.BigEndian.Uint32(b[4:]):]; len(b) >= 12; {
		id, width, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:])), int(binary.BigEndian.Uint32(b[8:]))
		for i := range n {
			at := b[12+i*width:]
			switch width {
			case 1:
				out.ints[id] = append(out.ints[id], uint32(at[0]))
			case 2:
				out.ints[id] = append(out.ints[id], uint32(binary.BigEndian.Uint16(at)))
			case 4:
				out.ints[id] = append(out.ints[id], binary.BigEndian.Uint32(at))
			default:
				t.Fatalf("table %d of %d bytes", id, width)
			}
		}
		b = b[(12+n*width+7)&^7:]
	}
	return out
}

func (d tables) walk(word string) (accept, quiet uint32) {
	const classes = 5
	const differs = 1 << 31 // the rest of the row is as the default state's
	s := uint32(1)
	for _, c := range []byte(word) {
		column := uint32(c)
		if ec := d.ints[classes]; ec != nil {
			column = ec[c]
		}
		for {
			base := d.ints[tableBase][s]
			at := base&0xffffff + column
			if d.ints[tableCheck][at] == s {
				s = d.ints[tableNext][at]
				break
			}
			s = d.ints[tableDefault][s]
			if base&differs == 0 {
				break
			}
		}
	}
	return d.ints[tableAccept][s], d.ints[tableAccept2][s]
}

// words are paths near those that rules are about.
func words(n int) []string {
	parts := []string{"proc", "sys", "1", "12x", "x", "kernel", "shmmax", "fs", "cgroup", "cgroups", "firmware", "kcore", "sysrq-trigger", "devices",
		"virtual", "powercap", "security", "self", "a b", "\xff", "bus", "kernel.x", "net", "f", "shm"}
	rnd := rand.New(rand.NewPCG(1, 2))
	out := []string{"", "/", "//", "/proc", "/proc/", "/proc/1", "/proc/1/", "/proc/sys/kernel/shm", "/sys/fs/cgroup", "/sys/fs/cgroup/"}
	for range n {
		var w strings.Builder
		for range 1 + rnd.IntN(5) {
			w.WriteString("/" + parts[rnd.IntN(len(parts))])
		}
		if rnd.IntN(4) == 0 {
			w.WriteString("/")
		}
		if rnd.IntN(4) == 0 {
			w.WriteString("\x00/proc/kcore")
		}
		out = append(out, w.String())
	}
	return out
}

func TestAutomataFollowTheRules(t *testing.T) {
	rules := append(withLinks(Default().files), Default().other("name")...)
	d := unpack(t, compile(rules).pack(func(rule int) (uint32, uint32) { return uint32(rule + 1), 0 }))
	all := words(3000)
	for _, w := range words(300) {
		all = append(all, classMount+w, classSignal+w, classSignal+"\x00"+w, classLabel+classPtrace+w)
	}
	all = append(all, classSignal+"\x09name", classSignal+"\x09names", classPtrace, classLabel, "\x02")
	for _, w := range all {
		got, _ := d.walk(w)
		if want := slow(rules, w); int(got)-1 != want {
			t.Errorf("%q: rule %d, want %d", w, int(got)-1, want)
		}
	}
}

// AppArmor's own compiler, of the same rules in its language, gives every path the
// same permissions.
func TestTheCompilerOfAppArmorGivesTheSame(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("SKIPPED: no apparmor_parser to compare with")
	}
	const text = `
profile peel-default flags=(attach_disconnected,mediate_deleted) {
	capability,
	network,
	umount,
	/{,**} rwlkmix,
	deny /proc/{,[^1-9s]**,s,s[^y]**,sy,sy[^s]**,sys[^/]**} wlk,
	deny /proc/{[1-9]*,sys} wlk,
	deny /proc/sys/{,[^k]**,k,k[^e]**,ke,ke[^r]**,ker,ker[^n]**,kern,kern[^e]**,kerne,kerne[^l]**,kernel,kernel[^/]**} wlk,
	deny /proc/sys/kernel/{,[^s]**,s,s[^h]**,sh,sh[^m]**,shm**/**} wlk,
	deny /proc/sysrq-trigger rwlkmx,
	deny /proc/kcore rwlkmx,
	deny /sys/{,[^f]**,f,f[^s]**,fs,fs[^/]**} wlkx,
	deny /sys/fs/{,[^c]**,c,c[^g]**,cg,cg[^r]**,cgr,cgr[^o]**,cgro,cgro[^u]**,cgrou,cgrou[^p]**,cgroup,cgroup[^/]**} wlkx,
	deny /sys/firmware/** rwlkmx,
	deny /sys/devices/virtual/powercap/** rwlkmx,
	deny /sys/kernel/security/** rwlkmx,
}`
	cmd := exec.Command(parser, "--skip-kernel-load", "--skip-cache", "--stdout", "--base", t.TempDir(), "--config-file", "/dev/null")
	cmd.Stdin = strings.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	theirs, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	a, b := fileTables(t, Default().pack(DefaultName)), fileTables(t, theirs)
	differences := 0
	for _, w := range words(4000) {
		if strings.Contains(w, "\x00") {
			continue // what a link may lead to has more rules in its language
		}
		// That a link may not be made they say in the pair alone.
		const links = link | link<<14
		mine, _ := a.walk(w)
		other, _ := b.walk(w)
		if mine != other && mine|uint32(links) != other {
			if differences++; differences < 20 {
				t.Errorf("%q: %07x, apparmor_parser has %07x", w, mine, other)
			}
		}
	}
	t.Logf("%d bytes, theirs %d", len(Default().pack(DefaultName)), len(theirs))
}

// fileTables finds the last automaton of a packed policy, which is that for files.
func fileTables(t *testing.T, policy []byte) tables {
	t.Helper()
	at := bytes.LastIndex(policy, []byte("aadfa\x00\x06"))
	if at < 0 {
		t.Fatal("no automaton")
	}
	at += 7
	size := int(binary.LittleEndian.Uint32(policy[at:]))
	blob := policy[at+4 : at+4+size]
	return unpack(t, blob[-(at+4)&7:])
}
