package images

import (
	"context"
	"errors"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"peel/e2e/layout"
)

// nginx is shaped like the image of that name on Docker Hub: a slim Debian, a
// layer with the packages, then small ones with an entrypoint script and its
// parts; logs that are links to the standard streams, workers of uid 101, and a
// stop signal of its own. One more layer removes files and replaces directories.
func nginx(ctx context.Context, c *Cache, dst *layout.Dir) (_ ocispec.Descriptor, err error) {
	r, discard, err := newRootfs(ctx, c, dst)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() { err = errors.Join(err, discard()) }()

	steps := []struct {
		what string
		do   func() error
	}{
		{baseStep, func() error { return nil }},
		{"apt-get install nginx", func() error { return r.chroot(ctx, nginxInstall) }},
		{"remove what installing left, start the configuration anew", func() error { return r.chroot(ctx, nginxTidy) }},
		{"COPY docker-entrypoint.sh /", func() error { return r.write("docker-entrypoint.sh", 0o755, entrypoint) }},
		{"COPY 10-listen-on-ipv6-by-default.sh /docker-entrypoint.d", func() error {
			return r.write("docker-entrypoint.d/10-listen-on-ipv6-by-default.sh", 0o755, entrypointIPv6)
		}},
		{"COPY 20-envsubst-on-templates.sh /docker-entrypoint.d", func() error {
			return r.write("docker-entrypoint.d/20-envsubst-on-templates.sh", 0o755, entrypointTemplates)
		}},
		{"COPY 30-tune-worker-processes.sh /docker-entrypoint.d", func() error {
			return r.write("docker-entrypoint.d/30-tune-worker-processes.sh", 0o755, entrypointWorkers)
		}},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return ocispec.Descriptor{}, err
		}
		if err := r.commit(s.what, layerOptions{}); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return r.image(ocispec.ImageConfig{
		Entrypoint:   []string{"/docker-entrypoint.sh"},
		Cmd:          []string{"nginx", "-g", "daemon off;"},
		Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NGINX_VERSION=1.22.1", "PKG_RELEASE=9~bookworm"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
		Labels:       map[string]string{"maintainer": "peel e2e"},
		StopSignal:   "SIGQUIT",
	})
}

const nginxInstall = `
	groupadd --system --gid 101 nginx
	useradd --system --uid 101 --gid nginx --no-create-home --home-dir /nonexistent --comment 'nginx user' --shell /bin/false nginx
	apt-get update -q
	apt-get install -q -y nginx libnginx-mod-http-geoip libnginx-mod-http-image-filter libnginx-mod-http-xslt-filter libnginx-mod-stream gettext-base ca-certificates curl
	apt-get clean
	sed -i 's/^user .*/user nginx;/' /etc/nginx/nginx.conf
	ln -sf /dev/stdout /var/log/nginx/access.log
	ln -sf /dev/stderr /var/log/nginx/error.log
	mkdir /docker-entrypoint.d
`

// A directory that is moved away before its successor is made surely has
// another inode, which is what an opaque directory is known by.
const nginxTidy = `
	rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/dpkg.log /var/log/apt /etc/nginx/sites-available
	mkdir /old
	mv /etc/nginx/conf.d /etc/nginx/sites-enabled /usr/share/nginx/html /old/
	mkdir /etc/nginx/conf.d /etc/nginx/sites-enabled /usr/share/nginx/html
	rm -rf /old
	cat >/etc/nginx/conf.d/default.conf <<-'END'
	server {
	    listen 80;
	    server_name localhost;
	    location / {
	        root /usr/share/nginx/html;
	        index index.html;
	    }
	}
	END
	echo '<!DOCTYPE html><title>Welcome to nginx!</title><h1>Welcome to nginx!</h1>' >/usr/share/nginx/html/index.html
`

const entrypoint = `#!/bin/sh
set -e
say() { [ -n "$NGINX_ENTRYPOINT_QUIET_LOGS" ] || echo "$0: $*"; }
if [ "$1" = nginx ] || [ "$1" = nginx-debug ]; then
    for part in /docker-entrypoint.d/*.sh; do
        [ -x "$part" ] || continue
        say "launching $part"
        "$part"
    done
    say "configuration complete; ready for start up"
fi
exec "$@"
`

const entrypointIPv6 = `#!/bin/sh
set -e
conf=/etc/nginx/conf.d/default.conf
[ -f /proc/net/if_inet6 ] || exit 0
grep -q 'listen  *80;' "$conf" || exit 0
sed -i 's/listen  *80;/&\n    listen [::]:80;/' "$conf"
`

const entrypointTemplates = `#!/bin/sh
set -e
dir=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
[ -d "$dir" ] || exit 0
for t in "$dir"/*.template; do
    envsubst <"$t" >"/etc/nginx/conf.d/$(basename "$t" .template)"
done
`

const entrypointWorkers = `#!/bin/sh
set -e
[ -n "$NGINX_ENTRYPOINT_WORKER_PROCESSES_AUTOTUNE" ] || exit 0
sed -i "s/^worker_processes.*/worker_processes $(nproc);/" /etc/nginx/nginx.conf
`
