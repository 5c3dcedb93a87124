package images

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
)

// The release of Debian that all images are made of, and the key that signs it:
// "Debian Stable Release Key (12/bookworm)", fingerprint
// 4D64 FEC1 19C2 0290 67D6  E791 F8D2 585B 8783 D481. Hosts that are older than the
// release do not have the key.
const (
	suite      = "bookworm"
	baseStep   = "debootstrap --variant=minbase " + suite
	releaseKey = `
mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzrcrf6AEq0SURl
YmlhbiBTdGFibGUgUmVsZWFzZSBLZXkgKDEyL2Jvb2t3b3JtKSA8ZGViaWFuLXJlbGVhc2VAbGlz
dHMuZGViaWFuLm9yZz6IlgQTFggAPhYhBE1k/sEZwgKQZ9bnkfjSWFuHg9SBBQJjzrlTAhsDBQkP
CZwABQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEPjSWFuHg9SBSgwBAP9qpeO5z1s5m4D4z3Tc
qDo1wez6DNya27QWWoG/4oBsAQCEN8Z00DXagPHbwrvsY2t9BCsT+PgnSn9biobwX7bDDg==`
)

func writeKeyring(path string) error {
	key, err := base64.StdEncoding.DecodeString(releaseKey) // it passes over line breaks
	if err != nil {
		return err
	}
	return os.WriteFile(path, key, 0o644)
}

// base is a Debian tree without what no container needs, as the slim images of
// public hubs are.
func (c *Cache) base(ctx context.Context) (string, error) {
	return c.keep(ctx, "base", func(tmp string) error {
		if os.Geteuid() != 0 {
			return errors.New("debootstrap needs root")
		}
		// The mode of the directory is that of the image's root.
		if err := os.Mkdir(tmp, 0o755); err != nil {
			return err
		}
		keyring := tmp + ".gpg"
		defer os.Remove(keyring)
		if err := writeKeyring(keyring); err != nil {
			return err
		}
		args := []string{"--variant=minbase", "--keyring=" + keyring, suite, tmp}
		if c.Mirror != "" {
			args = append(args, c.Mirror)
		}
		if err := apart(ctx, "/", "debootstrap", args...); err != nil {
			return err
		}
		r := &rootfs{dir: tmp}
		return r.sh(ctx, `
			rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/* var/cache/apt/*.bin var/log/*.log dev/*
			find usr/share/locale usr/share/man usr/share/info usr/share/doc -type f ! -name copyright -delete
			find usr/share/locale usr/share/man -mindepth 1 -type d -empty -delete
			: >etc/machine-id; : >etc/resolv.conf; : >etc/hostname
			cat >etc/dpkg/dpkg.cfg.d/slim <<-'END'
			path-exclude /usr/share/man/*
			path-exclude /usr/share/locale/*
			path-exclude /usr/share/doc/*
			path-include /usr/share/doc/*/copyright
			force-unsafe-io
			END
			cat >etc/apt/apt.conf.d/slim <<-'END'
			Acquire::Languages "none";
			APT::Install-Recommends "false";
			Dir::Cache::pkgcache "";
			Dir::Cache::srcpkgcache "";
			END
			printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d
			chmod 755 usr/sbin/policy-rc.d`)
	})
}
