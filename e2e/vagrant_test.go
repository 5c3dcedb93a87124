package e2e

import (
	"os"
	"os/exec"
	"testing"
)

func TestVagrantfileIsValid(t *testing.T) {
	if _, err := exec.LookPath("vagrant"); err != nil {
		t.Skip("SKIPPED: this machine lacks vagrant (setup.sh leaves it out for its size)")
	}
	// Which hypervisor a machine has is not the file's business.
	cmd := exec.CommandContext(t.Context(), "vagrant", "validate", "--ignore-provider")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "VAGRANT_HOME="+t.TempDir(), "VAGRANT_DOTFILE_PATH="+t.TempDir(), "VAGRANT_CHECKPOINT_DISABLE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("vagrant validate: %v\n%s", err, out)
	}
}
