#!/bin/sh
# Shows peel at work: pulls nginx:latest, unpacks it, runs it. Takes the image
# from Docker Hub; where that cannot be reached, makes one of the same shape from
# Debian's packages and serves it from a registry on loopback. Leaves nothing
# behind but peel itself and what it says it installs.
set -eu
exec 2>&1 # one stream, in the order of things
cd "$(dirname "$0")/.."
repo=$(pwd)

say() { printf '\n# %s\n' "$*"; }
show() { # a command as one would type it, then its output
	printf '\n$ %s\n' "$*"
	"$@"
}
die() { printf '\ndemo: %s\n' "$*"; exit 1; }

[ "$(id -u)" = 0 ] || die "needs root, to make files of other users and to start a container: sudo make demo"
command -v go >/dev/null || die "needs Go to build peel"

work=$(mktemp -d "${TMPDIR:-/tmp}/peel-demo.XXXXXX")
lab=
clean() {
	trap - EXIT
	[ ! -d "$work/store/containers" ] || peel rm --force experiment >/dev/null 2>&1 || :
	[ ! -d "$work/runc" ] || runc --root "$work/runc" delete --force web >/dev/null 2>&1 || :
	if [ -n "$lab" ]; then
		kill "$lab" 2>/dev/null || :
		wait "$lab" 2>/dev/null || :
	fi
	rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

show env CGO_ENABLED=0 go build -trimpath -o peel ./cmd/peel
PATH=$repo:$PATH
export PEEL_ROOT="$work/store"

# serve makes the image and starts the registry; ref is where it is served.
serve() {
	"$repo/e2e/setup.sh" demo
	go build -o "$work/lab" ./e2e/lab
	mkfifo "$work/says"
	"$work/lab" serve nginx >"$work/says" &
	lab=$!
	ref=
	while read -r line; do
		[ "$line" != ready ] || break
		ref=$line
	done <"$work/says"
	[ "${line:-}" = ready ] || die "no local registry"
}

ref=nginx:latest
if ! show peel pull $ref; then
	say "Docker Hub cannot be reached, so another nginx:latest: made of Debian's packages, from a registry on loopback"
	serve
	say "ready: nginx:latest is $ref from here on"
	show peel pull "$ref"
fi
say "once more: every blob is there, nothing is fetched"
show peel pull "$ref"
show peel images

cd "$work"
show peel unpack "$ref" ./nginx
say "a bundle for any OCI runtime"
show ls -l nginx
show ls nginx/rootfs
show grep -m 1 -A 5 args nginx/config.json
show ls -l nginx/rootfs/var/log/nginx
show du -sh nginx/rootfs

# answers waits for the page of nginx; $1 is the process without which none comes.
answers() {
	watched=$1
	shift
	until page=$("$@" curl -s http://127.0.0.1/ 2>/dev/null); do
		if ! kill -0 "$watched" 2>/dev/null; then
			cat "$work/log"
			die "the container has ended"
		fi
		sleep 0.1
	done
	printf '\n$ %s curl -s http://127.0.0.1/\n%s\n' "$shown" "$page"
}

if command -v runc >/dev/null; then
	say "and runc runs it"
	printf '\n$ runc run --bundle nginx web &\n'
	runc --root "$work/runc" run --bundle nginx web >"$work/log" 2>&1 &
	container=$!
	shown="runc exec web"
	answers "$container" runc --root "$work/runc" exec web
	printf '\n$ runc kill web QUIT\n'
	runc --root "$work/runc" kill web QUIT
	wait "$container"
	printf '\n$ cat log\n'
	cat "$work/log"
else
	say "runc is not installed here; it would run this bundle: cd nginx && runc run web"
fi

say "peel runs it too: a container is a process"
show peel run -d --name experiment "$ref"
pid=$(peel inspect -f '{{.State.Pid}}' experiment)
peel logs experiment >"$work/log" 2>&1
shown="peel exec experiment"
answers "$pid" peel exec experiment
show peel ps
! command -v ps >/dev/null || show ps -o user,pid,ppid,args --pid "$pid" --ppid "$pid"
show peel exec experiment touch /HELLO_OPS
show ls -l "/proc/$pid/root/HELLO_OPS"
show peel export experiment -o experiment.tar
printf '\n$ tar -tf experiment.tar | grep HELLO_OPS\n'
tar -tf experiment.tar | grep HELLO_OPS
show peel stop experiment
show peel rm experiment
