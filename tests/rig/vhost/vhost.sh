#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vhost.sh demo|restart|systemd|migrate|domain: a program of the vhost rig, in which a stock guest's disks are the back-end's.
#
# demo.py     `make demo-vhost`: disks replaced and killed under load, while memory comes and goes
# restart.py  `make check-vhost-restart`: the whole back-end dies, and is another build in the end; as a test
# systemd.py  `make check-vhost-systemd`: the packaged units, under systemd; as a test
# migrate.py  `make demo-vhost-migrate`: the guest moves to another QEMU and another back-end, again and again
#             (copy.sh, by itself, does that in the nested rig: `make demo-vhost-copy`)
# domain.py   `make demo-vhost-libvirt`: the same disks, given to a guest by libvirt
#
# Gets the kernel and makes the initial file system first, by the nested rig's scripts.  Works as any user, but for
# systemd.py, which is for root (else it says so, and is skipped).  A user who cannot write to build/ needs somebody
# who can to have done that part.  For root, AS_UID=N runs the program as that user, who need not have an account, but
# for domain.py (nobody, if nothing is said); not so systemd.py.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/../nested/lib.sh"

case ${1-} in
demo) keep=demo-vhost ;;
restart) keep=check-vhost-restart ;;
systemd) keep=check-vhost-systemd AS_UID= ;;
migrate) keep=demo-vhost-migrate ;;
domain) keep=demo-vhost-libvirt AS_UID=${AS_UID:-$(id -u nobody)} ;;
*) die "usage: tests/rig/vhost/vhost.sh demo|restart|systemd|migrate|domain" ;;
esac
[ "$(id -u)" -eq 0 ] || AS_UID=
[ -x "${MAYFLY:-$TOP/build/mayfly}" ] || die "${MAYFLY:-build/mayfly} is missing: make"
"$here/../nested/fetch.sh"
"$here/../nested/build-images.sh"

as=()
if [ -n "${AS_UID-}" ]; then
	as=(setpriv "--reuid=$AS_UID" "--regid=$AS_UID" --clear-groups --inh-caps=-all env)
	mkdir -p "$TOP/build/vhost"
	install -d -o "$AS_UID" "$TOP/build/vhost/$keep" # for its logs
fi
cd "$TOP"
case $1 in
restart | systemd) ;;
*) exec ${as[@]+"${as[@]}"} "$here/$1.py" ;;
esac

# Its report, then what tests/run.sh says, whose last line is the count of what passed.
status=0
said=$(tests/run.sh -l "vhost-$1" -t $((${COUNT:-50} * 4 + 300)) ${AS_UID:+-u "$AS_UID"} "$here/$1.py") || status=$?
[ $status -ne 0 ] || cat "build/log/vhost-$1/$1.py.log"
echo "$said"
exit $status
