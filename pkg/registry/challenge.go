package registry

import "strings"

// challenge is one of a WWW-Authenticate header (RFC 9110, 11.6.1).
type challenge struct {
	scheme string            // lower case
	params map[string]string // names in lower case
}

func find(cs []challenge, scheme string) (challenge, bool) {
	for _, c := range cs {
		if c.scheme == scheme {
			return c, true
		}
	}
	return challenge{}, false
}

// parseChallenges reads all challenges of all lines of the header. A line may
// hold several, and what it holds that cannot be read ends it.
func parseChallenges(lines []string) []challenge {
	var cs []challenge
	for _, s := range lines {
		var cur *challenge
		for {
			s = strings.TrimLeft(s, " \t,")
			word, rest := token(s)
			if word == "" {
				break
			}
			after := strings.TrimLeft(rest, " \t")
			if cur == nil || !strings.HasPrefix(after, "=") {
				cs = append(cs, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
				cur, s = &cs[len(cs)-1], rest
				continue
			}
			after = strings.TrimLeft(after[1:], " \t")
			if after == "" || after[0] == '=' || after[0] == ',' {
				s = strings.TrimLeft(after, "=") // a token68, such as Negotiate's
				continue
			}
			var value string
			var ok bool
			if value, s, ok = paramValue(after); !ok {
				break
			}
			if _, twice := cur.params[strings.ToLower(word)]; !twice {
				cur.params[strings.ToLower(word)] = value
			}
		}
	}
	return cs
}

func paramValue(s string) (value, rest string, ok bool) {
	if s[0] != '"' {
		value, rest = token(s)
		return value, rest, value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// token cuts a token (RFC 9110, 5.6.2), or the characters that a token68 has
// besides, off the front of s.
func token(s string) (word, rest string) {
	i := 0
	for i < len(s) && (isAlnum(s[i]) || strings.IndexByte("!#$%&'*+-.^_`|~/:", s[i]) >= 0) {
		i++
	}
	return s[:i], s[i:]
}
