//go:build race

package run

// raceEnabled: the race detector makes all programs of this test slow.
const raceEnabled = true
