// Package vm runs tests inside a virtual machine, for what the kernel that runs
// here cannot show: cgroup version 2, AppArmor and SELinux.
//
// The machine is QEMU with a kernel of Debian's for clouds, by KVM where that
// works and by emulation elsewhere. Its disk is made of a directory of this
// machine's; its first program (package main in init) runs jobs from there and
// tells of them over a serial port. Nothing of it needs a network.
package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"

	"peel/e2e/vm/job"
)

// Machine is a virtual machine that runs jobs once.
type Machine struct {
	Kernel *Kernel
	// Init is the built program of package init.
	Init string
	// Tree is the directory that becomes the disk; it gains a directory vm.
	Tree string
	// Boot are words for the kernel's command line.
	Boot []string
	// Console receives what the kernel prints.
	Console string
}

const (
	diskBytes = 2 << 30 // sparse
	memoryMiB = 1536
)

// Run runs the jobs in their order, and calls event with what they say, until
// the machine turns itself off. Files that it needs meanwhile go below dir.
func (m *Machine) Run(ctx context.Context, dir string, jobs []job.Job, event func(job.Event)) error {
	disk, initramfs := filepath.Join(dir, "disk"), filepath.Join(dir, "initramfs")
	if err := m.makeDisk(ctx, disk, jobs); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if err := writeInitramfs(initramfs, m.Init, m.Kernel.Modules); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	cmd := exec.CommandContext(ctx, qemu, m.args(disk, initramfs)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	said := &tail{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := 0
	var eventErr error
	for dec := json.NewDecoder(out); ; {
		var e job.Event
		if eventErr = dec.Decode(&e); eventErr != nil {
			break
		}
		if e.Ended {
			ended++
		}
		event(e)
	}
	_, _ = io.Copy(io.Discard, out) // Wait must not find anybody writing
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%d of %d jobs ended: %w", ended, len(jobs), ctx.Err())
	case err != nil:
		return fmt.Errorf("%s: %w: %s", qemu, err, said.b)
	case ended < len(jobs):
		return fmt.Errorf("the machine ended after %d of %d jobs: %w", ended, len(jobs), eventErr)
	case !errors.Is(eventErr, io.EOF):
		return eventErr
	}
	return nil
}

// tail keeps the beginning of what a program has to complain about.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[:min(len(p), 4096-len(t.b))]...)
	return len(p), nil
}

const qemu = "qemu-system-x86_64"

func (m *Machine) args(disk, initramfs string) []string {
	boot := "console=ttyS0 panic=-1 oops=panic"
	for _, word := range m.Boot {
		boot += " " + word
	}
	accel, cpu := "tcg,thread=multi", "max"
	if kvmWorks() {
		accel, cpu = "kvm", "host"
	}
	return []string{
		"-machine", "q35", "-accel", accel, "-cpu", cpu, "-smp", "2", "-m", strconv.Itoa(memoryMiB),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-kernel", m.Kernel.Image, "-initrd", initramfs, "-append", boot,
		// The disk does not outlive the machine: nothing need ever be flushed.
		"-drive", "file=" + disk + ",if=virtio,format=raw,cache=unsafe",
		"-serial", "file:" + m.Console, "-serial", "stdio",
	}
}

// kvmWorks wants a processor that virtualizes, and a KVM that makes machines. With
// one that does without the former, in software, QEMU does not get far.
func kvmWorks() bool {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !regexp.MustCompile(`(?m)^flags\b.*\b(vmx|svm)\b`).Match(b) {
		return false
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	const createVM = 0xae01 // KVM_CREATE_VM
	fd, err := unix.IoctlRetInt(int(f.Fd()), createVM)
	if err != nil {
		return false
	}
	return unix.Close(fd) == nil
}

// makeDisk makes a file system of the tree, without mounting anything.
func (m *Machine) makeDisk(ctx context.Context, disk string, jobs []job.Job) error {
	b, err := json.Marshal(jobs)
	if err != nil {
		return err
	}
	for _, d := range []string{"vm", "proc", "sys", "dev", "run", "tmp", "root", "etc/ssl", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(m.Tree, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(m.Tree, job.File), b, 0o644); err != nil {
		return err
	}
	if err := CopyFile(m.Init, filepath.Join(m.Tree, "vm/init")); err != nil {
		return err
	}
	f, err := os.Create(disk)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskBytes), f.Close()); err != nil {
		return err
	}
	// Tables that are written when they are needed make this a matter of the
	// tree's size alone.
	out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0", "-d", m.Tree, disk).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", mkfs, err, out)
	}
	return nil
}

const mkfs = "mkfs.ext4"

// Missing names the programs that Run needs and this machine lacks.
func Missing() []string {
	var list []string
	for _, p := range []string{qemu, mkfs} {
		if _, err := exec.LookPath(p); err != nil {
			list = append(list, p)
		}
	}
	return list
}
