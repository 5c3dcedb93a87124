package commit

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Change is a change of an image's config.
type Change func(c *ocispec.ImageConfig, state *changeState)

// changeState is what a change leaves for those after it.
type changeState struct{ cmd bool }

// ParseChange reads an instruction as a Dockerfile has it, of those that change no
// file: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR.
func ParseChange(line string) (Change, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	name, rest = strings.ToUpper(name), strings.TrimSpace(rest)
	parse, ok := instructions[name]
	if !ok {
		return nil, fmt.Errorf("%q: want CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR", line)
	}
	if rest == "" {
		return nil, fmt.Errorf("%q: nothing follows %s", line, name)
	}
	c, err := parse(rest)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", line, err)
	}
	return c, nil
}

var instructions = map[string]func(rest string) (Change, error){
	"CMD": func(rest string) (Change, error) {
		command := parseCommand(rest)
		return func(c *ocispec.ImageConfig, s *changeState) { c.Cmd, s.cmd = command, true }, nil
	},
	"ENTRYPOINT": func(rest string) (Change, error) {
		command := parseCommand(rest)
		return func(c *ocispec.ImageConfig, s *changeState) {
			c.Entrypoint = command
			// The old arguments were another program's.
			if !s.cmd {
				c.Cmd = nil
			}
		}, nil
	},
	"ENV": func(rest string) (Change, error) {
		pairs, err := parsePairs(rest)
		if err != nil {
			return nil, err
		}
		return func(c *ocispec.ImageConfig, _ *changeState) {
			for _, p := range pairs {
				c.Env = setVariable(c.Env, p[0], p[1])
			}
		}, nil
	},
	"LABEL": func(rest string) (Change, error) {
		pairs, err := parsePairs(rest)
		if err != nil {
			return nil, err
		}
		return func(c *ocispec.ImageConfig, _ *changeState) {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			for _, p := range pairs {
				c.Labels[p[0]] = p[1]
			}
		}, nil
	},
	"EXPOSE": parsePorts,
	"VOLUME": func(rest string) (Change, error) {
		var list []string
		if json.Unmarshal([]byte(rest), &list) != nil {
			var err error
			if list, err = words(rest); err != nil {
				return nil, err
			}
		}
		return func(c *ocispec.ImageConfig, _ *changeState) {
			if c.Volumes == nil {
				c.Volumes = map[string]struct{}{}
			}
			for _, v := range list {
				c.Volumes[v] = struct{}{}
			}
		}, nil
	},
	"WORKDIR": oneWord(func(c *ocispec.ImageConfig, dir string) {
		if !path.IsAbs(dir) {
			dir = path.Join("/", c.WorkingDir, dir)
		}
		c.WorkingDir = path.Clean(dir)
	}),
	"USER":       oneWord(func(c *ocispec.ImageConfig, user string) { c.User = user }),
	"STOPSIGNAL": oneWord(func(c *ocispec.ImageConfig, signal string) { c.StopSignal = signal }),
}

func oneWord(set func(*ocispec.ImageConfig, string)) func(string) (Change, error) {
	return func(rest string) (Change, error) {
		list, err := words(rest)
		if err != nil {
			return nil, err
		}
		if len(list) != 1 {
			return nil, errors.New("want one word")
		}
		return func(c *ocispec.ImageConfig, _ *changeState) { set(c, list[0]) }, nil
	}
}

// parseCommand reads a JSON array of words, or else a line for the shell.
func parseCommand(rest string) []string {
	var list []string
	if json.Unmarshal([]byte(rest), &list) == nil && list != nil {
		return list
	}
	return []string{"/bin/sh", "-c", rest}
}

// parsePairs reads NAME=VALUE words, or in the old form one name, a space and the
// value.
func parsePairs(rest string) ([][2]string, error) {
	list, err := words(rest)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(list[0], "=") {
		name, value, ok := strings.Cut(rest, " ")
		if !ok {
			return nil, errors.New("want NAME=VALUE")
		}
		return [][2]string{{name, strings.TrimSpace(value)}}, nil
	}
	var pairs [][2]string
	for _, w := range list {
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q: want NAME=VALUE", w)
		}
		pairs = append(pairs, [2]string{name, value})
	}
	return pairs, nil
}

func setVariable(env []string, name, value string) []string {
	for i, v := range env {
		if n, _, _ := strings.Cut(v, "="); n == name {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

// parsePorts reads words PORT or FIRST-LAST, each perhaps with /tcp, /udp or /sctp.
func parsePorts(rest string) (Change, error) {
	list, err := words(rest)
	if err != nil {
		return nil, err
	}
	var ports []string
	for _, w := range list {
		span, proto, given := strings.Cut(w, "/")
		if !given {
			proto = "tcp"
		}
		from, to, isSpan := strings.Cut(span, "-")
		if !isSpan {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		proto = strings.ToLower(proto)
		if err1 != nil || err2 != nil || first > last || proto != "tcp" && proto != "udp" && proto != "sctp" {
			return nil, fmt.Errorf("%q: want PORT[/tcp|/udp|/sctp]", w)
		}
		for p := first; p <= last; p++ {
			ports = append(ports, fmt.Sprintf("%d/%s", p, proto))
		}
	}
	return func(c *ocispec.ImageConfig, _ *changeState) {
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		for _, p := range ports {
			c.ExposedPorts[p] = struct{}{}
		}
	}, nil
}

// words splits a line as a shell would, with quotes and backslashes. There is at
// least one.
func words(line string) ([]string, error) {
	var list []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && quote != '\'':
			i++
			if i == len(line) {
				return nil, errors.New("nothing follows the last backslash")
			}
			if quote == '"' && line[i] != '"' && line[i] != '\\' && line[i] != '$' {
				word.WriteByte(c) // it escapes nothing else there
			}
			word.WriteByte(line[i])
			inWord = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == ' ' || c == '\t':
			if inWord {
				list = append(list, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("no second %c", quote)
	}
	if inWord {
		list = append(list, word.String())
	}
	if len(list) == 0 {
		return nil, errors.New("no word")
	}
	return list, nil
}
