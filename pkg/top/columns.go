package top

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Column is one column of a listing.
type Column struct {
	Heading string
	// Text is what stands there for a process. Names of programs and their arguments
	// are as they are: strangers chose them.
	Text func(*Process, Machine) string
}

// UnknownError is a word among the options of ps that is not understood.
type UnknownError struct {
	Word string
	// Known are the words that would be in its place.
	Known []string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("%q: want one of %s", e.Word, strings.Join(e.Known, " "))
}

// full are the columns of ps -f, and bsd those of ps u.
var (
	full = []string{"user=UID", "pid", "ppid", "c", "stime", "tname", "time", "cmd"}
	bsd  = []string{"user", "pid", "%cpu", "%mem", "vsz", "rss", "tname=TTY", "stat", "start_time=START", "bsdtime", "args=COMMAND"}
)

// Columns reads options of ps: none, or those for the full format, are that one;
// "aux" is BSD's; "-o pid,args" and "-eo pid,args" choose. Which processes there are
// to see, as -e and -A and x say, is not asked here. *UnknownError.
func Columns(options []string) ([]Column, error) {
	var words []string
	bsdFormat := false
	for i := 0; i < len(options); i++ {
		letters, list, isLong := options[i], "", false
		if letters, isLong = strings.CutPrefix(letters, "--format"); isLong {
			var attached bool
			if list, attached = strings.CutPrefix(letters, "="); !attached && letters != "" {
				return nil, &UnknownError{options[i], optionWords}
			}
			letters = "o"
		} else if letters, list, isLong = strings.Cut(strings.TrimPrefix(letters, "-"), "o"); isLong {
			letters += "o"
		}
		for _, l := range letters {
			switch l {
			case 'e', 'A', 'a', 'x', 'f':
			case 'u':
				bsdFormat = true
			case 'o':
				if list == "" {
					if i++; i == len(options) {
						return nil, &UnknownError{"-o", []string{"a list of columns behind it"}}
					}
					list = options[i]
				}
				words = append(words, strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })...)
			default:
				return nil, &UnknownError{options[i], optionWords}
			}
		}
	}
	switch {
	case len(words) > 0:
	case bsdFormat:
		words = bsd
	default:
		words = full
	}
	return chosen(words)
}

var optionWords = []string{"-ef", "aux", "-o LIST", "-eo LIST"}

// chosen finds columns by their names, or NAME=HEADING.
func chosen(words []string) ([]Column, error) {
	var columns []Column
	for _, word := range words {
		name, heading, renamed := strings.Cut(word, "=")
		text, ok := texts[name]
		if !ok {
			return nil, &UnknownError{name, slices.Sorted(maps.Keys(texts))}
		}
		if !renamed {
			if heading = headings[name]; heading == "" {
				heading = strings.ToUpper(name)
			}
		}
		columns = append(columns, Column{heading, text})
	}
	return columns, nil
}

// headings are those of columns that have another name than that.
var headings = map[string]string{
	"args": "COMMAND", "comm": "COMMAND", "cmd": "CMD", "etime": "ELAPSED", "etimes": "ELAPSED", "euser": "EUSER", "euid": "EUID",
	"nice": "NI", "s": "S", "sess": "SESS", "start": "STARTED", "start_time": "START", "state": "S", "stime": "STIME", "thcount": "THCNT",
	"tname": "TTY", "tt": "TT", "tty": "TT", "uname": "USER", "pcpu": "%CPU", "pmem": "%MEM", "bsdtime": "TIME", "cputime": "TIME",
}

type text = func(*Process, Machine) string

// texts are the columns by the names that ps gives them.
var texts = map[string]text{
	"pid":  func(p *Process, _ Machine) string { return strconv.Itoa(p.PID) },
	"ppid": func(p *Process, _ Machine) string { return strconv.Itoa(p.PPID) },
	"pgid": func(p *Process, _ Machine) string { return strconv.Itoa(p.PGID) },
	"sid":  func(p *Process, _ Machine) string { return strconv.Itoa(p.SID) }, "sess": func(p *Process, _ Machine) string { return strconv.Itoa(p.SID) },
	"user": userOf, "uname": userOf, "euser": userOf,
	"uid": func(p *Process, _ Machine) string { return strconv.Itoa(p.UID) }, "euid": func(p *Process, _ Machine) string { return strconv.Itoa(p.UID) },
	"gid": func(p *Process, _ Machine) string { return strconv.Itoa(p.GID) }, "egid": func(p *Process, _ Machine) string { return strconv.Itoa(p.GID) },
	"group": groupOf, "egroup": groupOf,
	"c":    func(p *Process, m Machine) string { return strconv.Itoa(min(int(p.share(m)), 99)) },
	"%cpu": percentCPU, "pcpu": percentCPU, "%mem": percentMemory, "pmem": percentMemory,
	"vsz":   func(p *Process, _ Machine) string { return strconv.FormatUint(p.VirtualBytes>>10, 10) },
	"rss":   func(p *Process, _ Machine) string { return strconv.FormatUint(p.ResidentBytes>>10, 10) },
	"tname": tty, "tty": tty, "tt": tty,
	"stat": status, "state": func(p *Process, _ Machine) string { return string(p.State) }, "s": func(p *Process, _ Machine) string { return string(p.State) },
	"stime": started, "start_time": started,
	"start":  startedAt,
	"etime":  func(p *Process, m Machine) string { return elapsed(p.age(m), false) },
	"etimes": func(p *Process, m Machine) string { return strconv.Itoa(int(p.age(m) / time.Second)) },
	"time":   func(p *Process, _ Machine) string { return elapsed(p.CPU, true) }, "cputime": func(p *Process, _ Machine) string { return elapsed(p.CPU, true) },
	"bsdtime": func(p *Process, _ Machine) string {
		return fmt.Sprintf("%d:%02d", int(p.CPU.Minutes()), int(p.CPU.Seconds())%60)
	},
	"ni": nice, "nice": nice, "psr": func(p *Process, _ Machine) string { return strconv.Itoa(p.Processor) },
	"nlwp": threads, "thcount": threads,
	"comm": func(p *Process, _ Machine) string { return p.Name + defunct(p) },
	"args": command, "cmd": command, "command": command,
}

// maxName is the width beyond which ps cuts the name of a user.
const maxName = 8

func userOf(p *Process, m Machine) string  { return idName(p.UID, m.UserName) }
func groupOf(p *Process, m Machine) string { return idName(p.GID, m.GroupName) }

func idName(id int, name func(int) string) string {
	if name != nil {
		if s := name(id); len(s) > maxName {
			return s[:maxName-1] + "+"
		} else if s != "" {
			return s
		}
	}
	return strconv.Itoa(id)
}

func (p *Process) age(m Machine) time.Duration { return max(m.Now.Sub(p.Started), 0) }

// share is how much of one processor's time a process has had in its life, in
// percent.
func (p *Process) share(m Machine) float64 {
	if age := p.age(m); age > 0 {
		return 100 * float64(p.CPU) / float64(age)
	}
	return 0
}

func percentCPU(p *Process, m Machine) string { return fmt.Sprintf("%.1f", p.share(m)) }

func percentMemory(p *Process, m Machine) string {
	if m.Memory == 0 {
		return "0.0"
	}
	return fmt.Sprintf("%.1f", 100*float64(p.ResidentBytes)/float64(m.Memory))
}

func tty(p *Process, _ Machine) string     { return p.TTY }
func nice(p *Process, _ Machine) string    { return strconv.Itoa(p.Nice) }
func threads(p *Process, _ Machine) string { return strconv.Itoa(p.Threads) }

// status is the state and what BSD tells with it: priority, whether it leads a
// session, has threads, is in the foreground.
func status(p *Process, _ Machine) string {
	s := string(p.State)
	switch {
	case p.Nice < 0:
		s += "<"
	case p.Nice > 0:
		s += "N"
	}
	if p.SID == p.PID {
		s += "s"
	}
	if p.Threads > 1 {
		s += "l"
	}
	if p.foreground {
		s += "+"
	}
	return s
}

// started is the time of today, the day of this year, or the year.
func started(p *Process, m Machine) string {
	at, now := p.Started.Local(), m.Now.Local()
	switch {
	case at.Year() != now.Year():
		return at.Format("2006")
	case at.YearDay() != now.YearDay():
		return at.Format("Jan02")
	}
	return at.Format("15:04")
}

func startedAt(p *Process, m Machine) string {
	if p.age(m) > 24*time.Hour {
		return p.Started.Local().Format("Jan 02")
	}
	return p.Started.Local().Format("15:04:05")
}

// elapsed is [[DD-]HH:]MM:SS, with hours always or if there are some.
func elapsed(d time.Duration, hours bool) string {
	s := int(d / time.Second)
	days, h, m := s/86400, s/3600%24, s/60%60
	text := fmt.Sprintf("%02d:%02d", m, s%60)
	if days > 0 || h > 0 || hours {
		text = fmt.Sprintf("%02d:%s", h, text)
	}
	if days > 0 {
		text = fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

// command is the arguments, or the name where there are none, as a kernel thread and
// what has ended have it.
func command(p *Process, _ Machine) string {
	if len(p.Args) == 0 {
		return "[" + p.Name + "]" + defunct(p)
	}
	return strings.Join(p.Args, " ")
}

func defunct(p *Process) string {
	if p.State == 'Z' {
		return " <defunct>"
	}
	return ""
}
