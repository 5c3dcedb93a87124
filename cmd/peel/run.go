package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"peel/pkg/bundle"
	"peel/pkg/run"
)

// runFlags are the flags of run as they are typed.
type runFlags struct {
	pullFlags
	streamFlags
	create     run.CreateOptions
	limits     limitFlag
	wishes     bundle.Wishes
	envFile    []string
	volumes    []string
	mounts     []string
	tmpfs      []string
	ulimits    []string
	security   []string
	labels     []string
	memory     string
	memorySwap string
	entrypoint string
	restart    string
	// stopTimeout counts if timeoutGiven.
	stopTimeout  int
	timeoutGiven bool
	network      string
	publish      []string
	when         string
	form         string
	dryRun       bool
}

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] BUNDLE|IMAGE [COMMAND [ARG...]]",
		Short: "Run a command in a new container",
		Long: `Run a command in a new container.

BUNDLE is a directory with a config.json, and begins with "." or "/"; the hooks it
names are run with your rights. IMAGE is a reference; one that is not in the store
is pulled. The container gets docker's
default confinement, and no network but its own loopback.

The exit code is the command's; 125 if peel failed, 126 if the command cannot be
executed, 127 if it is not there.`,
		Example: `  peel run --rm -it debian:12 bash
  peel run -d --name web -v ./site:/usr/share/nginx/html:ro nginx:latest
  peel run --memory 64m --cpus 0.5 --pids-limit 50 --read-only ./bundle`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.timeoutGiven = cmd.Flags().Changed("stop-timeout")
			return a.run(cmd.Context(), args[0], args[1:], f)
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	f.limits.register(flags, false)
	flags.SetInterspersed(false) // what follows IMAGE is the container's
	flags.Bool("help", false, "help for run")
	flags.BoolVarP(&f.detach, "detach", "d", false, "run in the background and print the container's id")
	flags.BoolVarP(&f.interactive, "interactive", "i", false, "give the command this input")
	flags.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	f.keys.register(cmd)
	flags.BoolVar(&f.create.AutoRemove, "rm", false, "remove the container when it ends")
	flags.BoolVar(&f.create.Init, "init", false, "run an init that buries dead processes and passes signals on")
	flags.StringVar(&f.restart, "restart", "no", "`POLICY` when the container ends: no, on-failure[:MAX], always, unless-stopped")
	flags.StringVar(&f.create.Name, "name", "", "`NAME` of the container")
	flags.StringVarP(&f.create.User, "user", "u", "", "`USER[:GROUP]` to run as, names or ids")
	flags.StringVar(&f.create.StopSignal, "stop-signal", "", "`SIGNAL` that asks the container to end")
	flags.IntVar(&f.stopTimeout, "stop-timeout", 0, "`SECONDS` that stop gives the container to end; -1 is for ever (default 10)")
	flags.StringArrayVarP(&f.labels, "label", "l", nil, "set a label, `NAME=VALUE`")
	flags.StringArrayVarP(&f.wishes.Env, "env", "e", nil, "set a variable, `NAME=VALUE`; NAME alone passes on peel's own")
	flags.StringArrayVar(&f.envFile, "env-file", nil, "read variables from `FILE`")
	flags.StringVarP(&f.wishes.Cwd, "workdir", "w", "", "working `DIR`")
	flags.StringVarP(&f.wishes.Hostname, "hostname", "h", "", "host `NAME`")
	flags.StringVar(&f.entrypoint, "entrypoint", "", "replace the image's entrypoint by `COMMAND`")
	flags.StringArrayVarP(&f.volumes, "volume", "v", nil, "mount a directory of the host or a volume, `[SOURCE:]TARGET[:OPTIONS]`")
	flags.StringArrayVar(&f.mounts, "mount", nil, "mount as `type=bind|volume|tmpfs,source=S,target=T,...` says")
	flags.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount a tmpfs at `TARGET[:OPTIONS]`")
	flags.BoolVar(&f.wishes.ReadOnly, "read-only", false, "make the root file system read-only")
	flags.StringVarP(&f.memory, "memory", "m", "", "limit memory to `SIZE`, as in 64m")
	flags.StringVar(&f.memorySwap, "memory-swap", "", "limit memory and swap together to `SIZE`; -1 is no limit (default: twice the memory)")
	flags.Float64Var(&f.wishes.Limits.CPUs, "cpus", 0, "limit processor time to `N` processors")
	flags.Uint64Var(&f.wishes.Limits.CPUShares, "cpu-shares", 0, "relative `WEIGHT` of processor time")
	flags.StringVar(&f.wishes.Limits.CPUSet, "cpuset-cpus", "", "run on these `CPUS` only, as in 0-3")
	flags.Int64Var(&f.wishes.Limits.Pids, "pids-limit", 0, "limit processes to `N`; -1 is no limit")
	flags.StringArrayVar(&f.ulimits, "ulimit", nil, "set a resource limit, `NAME=SOFT[:HARD]`")
	flags.StringArrayVar(&f.wishes.CapAdd, "cap-add", nil, "add `CAPABILITY`, or ALL")
	flags.StringArrayVar(&f.wishes.CapDrop, "cap-drop", nil, "drop `CAPABILITY`, or ALL")
	flags.StringArrayVar(&f.security, "security-opt", nil, "`OPTION`: no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE|unconfined, label=type:TYPE")
	flags.StringVar(&f.network, "network", "none", "`MODE`: none or host")
	flags.StringArrayVarP(&f.publish, "publish", "p", nil, "not supported yet: use --network host")
	flags.StringVar(&f.when, "pull", pullMissing, "`WHEN` to ask the registry: missing, always, never")
	flags.StringVar(&f.form, "store-form", formAuto, "`FORM` of the image's files: image, mounted without creating any; files; auto, image where Linux can")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the config.json, and what it comes to, of the container that would be made; make none")
	return cmd
}

func (a *app) run(ctx context.Context, what string, command []string, f runFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	if err := f.resolve(command); err != nil {
		return usageError{nil, err}
	}
	if err := hasObstacle(); err != nil {
		return err
	}
	rt, err := a.openRuntime()
	if err != nil {
		return err
	}
	var c *run.Container
	if strings.HasPrefix(what, ".") || strings.HasPrefix(what, "/") {
		c, err = a.createFromBundle(ctx, rt, what, f)
	} else {
		c, err = a.createFromImage(ctx, rt, what, command, f)
	}
	if err != nil || f.dryRun {
		return err
	}
	return a.startContainer(ctx, c, f.streamFlags)
}

// startContainer runs a container that was just created. One that cannot start
// stays, as docker's does, unless it was to be removed.
func (a *app) startContainer(ctx context.Context, c *run.Container, f streamFlags) error {
	undo := func(err error) error {
		if c.AutoRemove {
			err = errors.Join(err, c.Remove(context.WithoutCancel(ctx), true))
		}
		return err
	}
	if f.detach {
		if err := c.StartDetached(); err != nil {
			return undo(err)
		}
		fmt.Fprintln(a.stdout, c.ID)
		return nil
	}
	if f.tty || !c.Restart.Never() {
		// It may outlive this process.
		attachment, err := c.StartAttached()
		if err != nil {
			return undo(err)
		}
		return exitWith(f.attached(attachment, true))
	}
	streams, relayed, err := f.streams()
	if err != nil {
		return undo(err)
	}
	defer relayed()
	p, err := c.Start(streams)
	if err != nil {
		return undo(err)
	}
	code, err := f.follow(p)
	for _, w := range p.Warnings() {
		fmt.Fprintln(a.stderr, "peel: warning:", w)
	}
	return exitWith(code, err)
}

// resolve turns what was typed into wishes.
func (f *runFlags) resolve(command []string) error {
	w := &f.wishes
	w.Terminal, w.Args = f.tty, command
	switch f.network {
	case "none":
	case "host":
		w.HostNetwork = true
	default:
		return fmt.Errorf("--network %q: want none or host", f.network)
	}
	if len(f.publish) > 0 {
		return errors.New("-p is not supported yet: with --network host the container listens on the host itself")
	}
	var err error
	if f.create.Restart, err = run.ParseRestartPolicy(f.restart); err != nil {
		return err
	}
	if f.create.AutoRemove && !f.create.Restart.Never() {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	f.create.OpenStdin = f.interactive
	if f.timeoutGiven {
		f.create.StopTimeout = &f.stopTimeout
	}
	if f.create.StopSignal != "" {
		if _, err := run.ParseSignal(f.create.StopSignal); err != nil {
			return err
		}
	}
	if w.Env, err = environment(f.envFile, w.Env); err != nil {
		return err
	}
	if w.Limits.Memory, err = byteSize("--memory", f.memory); err != nil {
		return err
	}
	if w.Limits.MemorySwap, err = byteSize("--memory-swap", f.memorySwap); err != nil {
		return err
	}
	if w.Limits.MemorySwap != 0 && w.Limits.Memory == 0 {
		return errors.New("--memory-swap needs --memory")
	}
	if err := f.resolveMounts(); err != nil {
		return err
	}
	for _, u := range f.ulimits {
		l, err := units.ParseUlimit(u)
		if err != nil {
			return err
		}
		w.Rlimits = append(w.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	for _, l := range f.labels {
		if f.create.Labels == nil {
			f.create.Labels = map[string]string{}
		}
		name, value, _ := strings.Cut(l, "=")
		f.create.Labels[name] = value
	}
	return f.securityOptions()
}

// resolveMounts reads the flags about mounts, in docker's order.
func (f *runFlags) resolveMounts() error {
	for _, v := range f.volumes {
		m, err := bundle.ParseVolume(v)
		if err != nil {
			return err
		}
		// docker makes a directory where the source is missing.
		if m.Type == "bind" && !f.dryRun && !isFile(m.Source) {
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return err
			}
		}
		f.wishes.Mounts = append(f.wishes.Mounts, m)
	}
	for _, other := range []struct {
		words []string
		parse func(string) (specs.Mount, error)
	}{{f.mounts, bundle.ParseMount}, {f.tmpfs, bundle.ParseTmpfs}} {
		for _, word := range other.words {
			m, err := other.parse(word)
			if err != nil {
				return err
			}
			f.wishes.Mounts = append(f.wishes.Mounts, m)
		}
	}
	return nil
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.IsDir()
}

func byteSize(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if text == "-1" {
		return -1, nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s %q: want a size, as in 64m", flag, text)
	}
	return n, nil
}

// environment joins variables of files and flags. A NAME alone passes on peel's
// own variable, if there is one.
func environment(files, flags []string) ([]string, error) {
	var words []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				words = append(words, line)
			}
		}
	}
	var env []string
	for _, word := range append(words, flags...) {
		name, _, hasValue := strings.Cut(word, "=")
		if name == "" {
			return nil, fmt.Errorf("variable %q has no name", word)
		}
		if !hasValue {
			value, ok := os.LookupEnv(name)
			if !ok {
				continue
			}
			word = name + "=" + value
		}
		env = append(env, word)
	}
	return env, nil
}

func (f *runFlags) securityOptions() (err error) {
	var labels []string
	for _, o := range f.security {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			key, value, _ = strings.Cut(o, ":") // docker's older form
		}
		switch {
		case key == "no-new-privileges" && (value == "" || value == "true"):
			f.wishes.NoNewPrivileges = true
		case key == "no-new-privileges" && value == "false":
		case key == "seccomp" && value == "unconfined":
			f.wishes.Seccomp = bundle.Seccomp{Unconfined: true}
		case key == "seccomp" && value != "":
			b, err := os.ReadFile(value)
			if err != nil {
				return err
			}
			f.wishes.Seccomp = bundle.Seccomp{Profile: string(b)}
		case key == "apparmor" && value != "":
			f.wishes.AppArmor = value
		case key == "label" && value == "disable": // nothing is labelled unasked
		case key == "label" && value != "":
			labels = append(labels, value)
		default:
			return fmt.Errorf("--security-opt %q: want no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE|unconfined or label=type:TYPE", o)
		}
	}
	if len(labels) > 0 {
		f.wishes.SELinux, err = run.SELinuxLabel(labels)
	}
	return err
}
