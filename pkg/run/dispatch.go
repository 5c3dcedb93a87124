package run

import (
	"os"

	"peel/pkg/run/internal/guest"
	"peel/pkg/run/internal/pid1"
	"peel/pkg/run/internal/proto"
)

// ImageFinder is Options.FindImage for the containers in a data directory.
type ImageFinder func(data string, i Image) (Source, error)

// Dispatch is the first line of main of every program that uses this package.
// It returns at once in a program that a person started. In a child that this
// package started it plays the child's role and does not return. Containers of
// images are started again by their restart policy with find; nil where there are
// none.
//
// It is not an init function: nothing but main decides what a program is.
func Dispatch(find ImageFinder) {
	// Nothing that it does could not be done without it.
	if len(os.Args) > 2 && os.Args[0] == proto.InitName {
		pid1.Main(os.Args[1], os.Args[2:])
	}
	// Any other role is known by a command line of exactly one word; what to do
	// comes over a pipe, so a program that is merely called by that name does
	// nothing.
	if len(os.Args) != 1 {
		return
	}
	switch os.Args[0] {
	case proto.GuestName:
		guest.Main()
	case proto.JoinName:
		guest.JoinMain()
	case proto.MonitorName:
		monitorMain(find)
	case proto.RemoveName:
		removeMain()
	case proto.ExportName:
		exportMain()
	case proto.OverlayName:
		overlayMain()
	}
}
