package main

import (
	"errors"
	"fmt"
	"os"
	osuser "os/user"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"peel/pkg/host"
	"peel/pkg/image"
	"peel/pkg/run"
)

func newDoctorCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Tell whether containers can run here, and what to do if not",
		Long: `Tell whether containers can run here for the user who asks, and what to do if not.
Nothing is changed. The exit code is 1 if no container can run.`,
		Example: "  peel doctor\n  peel doctor --json | jq '.[] | select(.level != \"ok\")'",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.doctor(asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return cmd
}

func (a *app) doctor(asJSON bool) error {
	findings := append(thisMachine().Check(), images())
	if asJSON {
		if err := writeJSON(a.stdout, findings, "  "); err != nil {
			return err
		}
	}
	code := 0
	for _, f := range findings {
		if f.Level == host.Fail {
			code = 1
		}
		if asJSON {
			continue
		}
		fmt.Fprintf(a.stdout, "%-5s %-17s %s\n", f.Level, f.Subject, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(a.stdout, "%23s fix: %s\n", "", f.Fix)
		}
	}
	return exitWith(code, nil)
}

// thisMachine is the one that peel runs on, for the user who runs it.
func thisMachine() *host.Machine {
	m := &host.Machine{FS: os.DirFS("/"), UID: os.Geteuid(), Writable: func(name string) bool { return unix.Access(name, unix.W_OK) == nil }}
	if u, err := osuser.LookupId(strconv.Itoa(m.UID)); err == nil {
		m.User = u.Username
	}
	if m.UID != 0 {
		uids, _ := run.UserMaps()
		for _, r := range uids {
			m.IDs += uint64(r.Size)
		}
	}
	return m
}

// images tells in which form containers get the files of theirs.
func images() host.Finding {
	f := host.Finding{Subject: "images", Level: host.OK, Text: "are mounted: no file of theirs is created"}
	var unsupported *image.UnsupportedError
	if errors.As(image.Supported(), &unsupported) {
		f.Text = "are unpacked, once for all their containers: " + unsupported.Why
		if os.Geteuid() == 0 {
			f.Level, f.Fix = host.Warn, "Linux 6.13 or newer, with EROFS, mounts them, and since 6.4 where there are loop devices"
		}
	}
	return f
}

// hasObstacle is nil, or why a user's containers cannot run: *host.Obstacle. root finds
// out by trying.
func hasObstacle() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return thisMachine().Obstacle()
}
