package bundle

import (
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// env is docker's environment: defaults, over them the image's, over them the
// caller's. HOME comes last, and only if nobody has set it.
func env(c ocispec.ImageConfig, home, hostname string, o Options) []string {
	vars := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname}
	if o.Terminal {
		vars = append(vars, "TERM=xterm")
	}
	image := slices.DeleteFunc(slices.Clone(c.Env), impossible)
	if n := len(c.Env) - len(image); n > 0 && o.Warn != nil {
		o.Warn(fmt.Sprintf("left out of the environment, as no program can be given it: %d of the image's variables", n))
	}
	vars = override(override(vars, image), o.Env)
	if home == "" {
		home = "/"
	}
	if indexVar(vars, "HOME") < 0 {
		vars = append(vars, "HOME="+home)
	}
	return vars
}

// impossible is a variable that execve(2) cannot pass on, or getenv(3) not find: with
// it, runtimes run nothing.
func impossible(v string) bool { return strings.HasPrefix(v, "=") || strings.Contains(v, "\x00") }

// override puts variables over others of the same name. One without "=" takes the
// name away; it could not be passed on either.
func override(vars, over []string) []string {
	for _, v := range over {
		name, _, hasValue := strings.Cut(v, "=")
		i := indexVar(vars, name)
		switch {
		case i >= 0 && hasValue:
			vars[i] = v
		case i >= 0:
			vars = slices.Delete(vars, i, i+1)
		case hasValue:
			vars = append(vars, v)
		}
	}
	return vars
}

func indexVar(vars []string, name string) int {
	return slices.IndexFunc(vars, func(v string) bool { return strings.HasPrefix(v, name+"=") })
}
