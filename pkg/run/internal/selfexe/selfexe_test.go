package selfexe

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheProgramRunsAndCannotBeWritten(t *testing.T) {
	if os.Getenv("SELFEXE_TEST") == "child" {
		// What is safe already is not copied again.
		if f := inherited(); f == nil {
			os.Exit(8)
		}
		os.Exit(7)
	}
	if f := inherited(); f != nil {
		t.Error("the file on disk was taken for what cannot be written")
	}
	for name, open := range map[string]func() (*os.File, error){"read-only mount": readOnlyMount, "sealed copy": sealedCopy} {
		t.Run(name, func(t *testing.T) {
			f, err := open()
			if err == unix.EPERM {
				t.Skipf("SKIPPED: a %s needs CAP_SYS_ADMIN", name)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			// As a process would that found the program under /proc/PID/exe.
			if w, err := os.OpenFile(Path(f), os.O_WRONLY, 0); err == nil {
				if _, err := w.Write([]byte{0}); err == nil || name == "read-only mount" {
					t.Errorf("opened for writing; a write gave %v", err)
				}
				w.Close()
			}
			cmd := exec.Command(Path(f), "-test.run=^TestTheProgramRunsAndCannotBeWritten$")
			cmd.Env = append(os.Environ(), "SELFEXE_TEST=child")
			cmd.ExtraFiles = nil
			unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
				t.Errorf("run: %v", err)
			}
		})
	}
}
