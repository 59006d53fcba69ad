#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vhost.sh demo|restart|domain: a program of the vhost rig, in which a stock guest's disks are the back-end's.
#
# demo.py     `make demo-vhost`: disks replaced and killed under load, while memory comes and goes
# restart.py  `make check-vhost-restart`: the whole back-end dies, and is another build in the end
# domain.py   `make demo-vhost-libvirt`: the same disks, given to a guest by libvirt
#
# Gets the kernel and makes the initial file system first, by the nested rig's scripts.  Works as any user; one
# who cannot write to build/ needs somebody who can to have done that part.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/../nested/lib.sh"

case ${1-} in
demo | restart | domain) ;;
*) die "usage: tests/rig/vhost/vhost.sh demo|restart|domain" ;;
esac
[ -x "${MAYFLY:-$TOP/build/mayfly}" ] || die "${MAYFLY:-build/mayfly} is missing: make"
"$here/../nested/fetch.sh"
"$here/../nested/build-images.sh"
export PATH=$PATH:$NESTED/pkg/sbin:$NESTED/pkg/usr/sbin PYTHONDONTWRITEBYTECODE=1
as=()
if [ "$1" = domain ] && [ "$(id -u)" -eq 0 ]; then
	as=(setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all env)
fi
exec ${as[@]+"${as[@]}"} python3 "$here/$1.py"
