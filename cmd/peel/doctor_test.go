package main

import (
	"fmt"
	"strings"
	"testing"

	"peel/pkg/host"
)

// A user whom the machine lets make no container is told before anything is tried,
// in the words of doctor.
func TestAnObstacleIsToldWithItsFix(t *testing.T) {
	err := error(&host.Obstacle{Finding: host.Finding{Subject: "user namespaces", Level: host.Fail, Text: "none may be made", Fix: "allow them"}})
	if got := err.Error(); got != "no container can run here: user namespaces: none may be made" {
		t.Error(got)
	}
	if got := hintFor(fmt.Errorf("run: %w", err)); !strings.HasPrefix(got, "allow them; 'peel doctor'") {
		t.Error(got)
	}
}
