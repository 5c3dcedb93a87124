package main

import (
	"os"
	"strings"
)

// networkFiles are the files of a container made from an image that say who and
// where it is.
func networkFiles(f runFlags) map[string]string {
	host := f.wishes.Hostname
	if host == "" {
		host = "peel"
	}
	files := map[string]string{"/etc/hostname": host + "\n", "/etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + host + "\n"}
	if !f.wishes.HostNetwork {
		files["/etc/resolv.conf"] = "" // nobody to ask
		return files
	}
	for _, name := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		if b, err := os.ReadFile(name); err == nil {
			files[name] = string(b)
		}
	}
	if _, ok := files["/etc/resolv.conf"]; !ok || strings.Contains(files["/etc/resolv.conf"], "\x00") {
		files["/etc/resolv.conf"] = ""
	}
	return files
}
