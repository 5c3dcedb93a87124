package main

import (
	"math"
	"strings"
	"testing"
)

func TestMeasure(t *testing.T) {
	// Thread 1 works a second alone, a second beside 2, which waits for a processor at
	// first, and half a second while 2 works too; 9 is another program's.
	const events = `
  10.0:  sched:sched_switch: prev_comm=sh prev_pid=9 prev_prio=120 prev_state=S ==> next_comm=peel next_pid=1 next_prio=120
  11.0:  sched:sched_wakeup: comm=peel pid=2 prio=120 target_cpu=001
  12.0:  sched:sched_switch: prev_comm=sh prev_pid=8 prev_prio=120 prev_state=R+ ==> next_comm=peel next_pid=2 next_prio=120
  12.5:  sched:sched_switch: prev_comm=peel prev_pid=1 prev_prio=120 prev_state=S ==> next_comm=swapper/0 next_pid=0 next_prio=120
  12.75: sched:sched_switch: prev_comm=peel prev_pid=2 prev_prio=120 prev_state=D ==> next_comm=sh next_pid=9 next_prio=120
  13.0:  sched:sched_wakeup: comm=sh pid=8 prio=120 target_cpu=000
`
	alone, beside, err := measure(strings.NewReader(events), "peel")
	if err != nil || math.Abs(alone-1.25) > 1e-9 || math.Abs(beside-2) > 1e-9 {
		t.Errorf("alone %v, beside %v, %v; want 1.25 and 2", alone, beside, err)
	}
	if _, _, err := measure(strings.NewReader(events), "other"); err == nil {
		t.Error("no event is no error")
	}
}
