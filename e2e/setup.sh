#!/bin/sh
# Installs what the tests, the demo and the benchmarks need beside Go: on
# Debian 12 or later, or Ubuntu 22.04 or later, as root. Does nothing when all of
# it is there.
#
#   e2e/setup.sh          for `make test`
#   e2e/setup.sh demo     only what `make demo` needs
set -eu

die() { echo "setup: $*" >&2; exit 1; }

# What to look for, and the package that has it.
demo='
	debootstrap              debootstrap
	docker-registry          docker-registry
	runc                     runc
'
tests="$demo
	bsdtar                   libarchive-tools
	cc                       gcc
	/usr/include/stdlib.h    libc6-dev
	crun                     crun
	fsck.erofs               erofs-utils
	mkfs.ext4                e2fsprogs
	newuidmap                uidmap
	podman                   podman
	qemu-system-x86_64       qemu-system-x86
	secilc                   secilc
	skopeo                   skopeo
	strace                   strace
"
case ${1:-tests} in
demo) wanted=$demo ;;
tests) wanted=$tests ;;
*) die "usage: e2e/setup.sh [demo]" ;;
esac

missing=
set -- $wanted
while [ $# -gt 0 ]; do
	case $1 in
	/*) [ -e "$1" ] || missing="$missing $2" ;;
	*) command -v "$1" >/dev/null || missing="$missing $2" ;;
	esac
	shift 2
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || die "needs$missing, and knows only Debian's and Ubuntu's apt-get to get them"
[ "$(id -u)" = 0 ] || die "installing$missing needs root: sudo e2e/setup.sh"

# Packages may come with services (docker-registry listens on port 5000). Asked
# for tools alone, we start none; a policy that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 130' INT TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi

echo "setup: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2 || die "apt-get update does not work; is there a network?"
# shellcheck disable=SC2086 # a list of names
apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $missing >&2 ||
	die "could not install$missing"
