// Command alone tells how much of a program's processor time it spent with a single
// thread that could run, and how much beside others: whether a second processor would
// have had something to do. Unlike the time on the wall, that says something on a busy
// machine, too. It reads what the scheduler did from perf:
//
//	perf record -a -e sched:sched_switch,sched:sched_wakeup,sched:sched_wakeup_new -o FILE COMMAND
//	perf script -i FILE -F time,event,trace | go run ./bench/alone NAME
//
// NAME is the program's, as ps -o comm has it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: alone NAME < events")
		os.Exit(2)
	}
	alone, beside, err := measure(os.Stdin, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "alone:", err)
		os.Exit(1)
	}
	fmt.Printf("alone %.3f s, beside others %.3f s; on two processors at least %.3f s, with all work spread evenly %.3f s\n",
		alone, beside, alone+beside/2, (alone+beside)/2)
}

var (
	switched = regexp.MustCompile(`^\s*([\d.]+):\s+sched:sched_switch:\s+prev_comm=(.*) prev_pid=(\d+) prev_prio=\d+ prev_state=(\S+) ==> next_comm=(.*) next_pid=(\d+)`)
	woken    = regexp.MustCompile(`^\s*([\d.]+):\s+sched:sched_wakeup(?:_new)?:\s+comm=(.*) pid=(\d+)`)
)

// A thread that is in no map sleeps.
type threads struct{ running, waiting map[string]bool }

// measure adds up the seconds of the program's threads.
func measure(events io.Reader, name string) (alone, beside float64, err error) {
	t := threads{map[string]bool{}, map[string]bool{}}
	last := -1.0
	for lines := bufio.NewScanner(events); lines.Scan(); {
		s, w := switched.FindStringSubmatch(lines.Text()), woken.FindStringSubmatch(lines.Text())
		if s == nil && w == nil {
			continue
		}
		stamp := append(s, w...)[1]
		now, err := strconv.ParseFloat(stamp, 64)
		if err != nil {
			return 0, 0, err
		}
		if worked := float64(len(t.running)) * (now - last); last < 0 {
		} else if len(t.running)+len(t.waiting) > 1 {
			beside += worked
		} else {
			alone += worked
		}
		last = now
		switch {
		case w != nil && w[2] == name && !t.running[w[3]]:
			t.waiting[w[3]] = true
		case s != nil:
			if s[2] == name {
				delete(t.running, s[3])
				if strings.HasPrefix(s[4], "R") { // it was made to stop
					t.waiting[s[3]] = true
				}
			}
			if s[5] == name {
				delete(t.waiting, s[6])
				t.running[s[6]] = true
			}
		}
	}
	if alone+beside == 0 {
		return 0, 0, fmt.Errorf("no event of %q", name)
	}
	return alone, beside, nil
}
