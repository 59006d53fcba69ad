#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh [LIST]: sees to it that what LIST (mk/packages.txt) has is installed.  One dpkg-query when nothing is
# missing.  Else: as root it installs by apt-get, as anybody else it prints the command and exits 1.
set -eu -o pipefail
cd "$(dirname "$0")/.."

mapfile -t wanted < <(sed -E 's/#.*//; /^[[:space:]]*$/d; s/^([^[:space:]]+).*/\1/' "${1:-mk/packages.txt}")

if ! command -v dpkg-query >/dev/null; then
	echo "deps: no dpkg here.  On Debian 12 these packages are used: ${wanted[*]}" >&2
	exit 1
fi

# Those that dpkg does not know, or knows as anything but installed.
missing() {
	dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
		sed -n 's/^installed //p' | sort -u | comm -13 - <(printf '%s\n' "${wanted[@]}" | sort -u)
}

# Without a word of theirs in the lists, apt-get knows no package at all.
have_lists() {
	compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null
}

install() {
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y \
		--no-install-recommends install "$@" </dev/null
}

mapfile -t need < <(missing)
[ ${#need[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "deps: ${#need[@]} packages are missing; as root:" >&2
	echo "  apt-get install --no-install-recommends ${need[*]}" >&2
	exit 1
fi
echo "deps: installing ${need[*]}"
have_lists || apt-get -q update </dev/null
# Lists that are older than the archive name files that are gone: once more with fresh ones.
install "${need[@]}" || { apt-get -q update </dev/null && install "${need[@]}"; }
mapfile -t need < <(missing)
if [ ${#need[@]} -ne 0 ]; then
	echo "deps: still missing: ${need[*]}" >&2
	exit 1
fi
