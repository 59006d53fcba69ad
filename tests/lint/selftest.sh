#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# selftest.sh: shows that includes.py and sizes.py go red, each breach in a tree of its own, and that
# the same tree without it is green.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
passed=0 failed=0

# A small tree in which all is well.
fresh() {
	rm -rf "${tree:?}"/*
	mkdir -p "$tree"/{core/{box,api,vhost},devmodel/{abi,common,blk,rng},snapshot,hotplug,tests}
	cd "$tree"
	echo '#include <stdint.h>' >devmodel/abi/gpa.h
	echo '#include "devmodel/abi/gpa.h"' >snapshot/codec.h
	echo '#include "snapshot/codec.h"' >snapshot/codec.c
	touch snapshot/envelope.h snapshot/image.h hotplug/memplug.h devmodel/common/{dev,policies}.h
	touch devmodel/blk/{state,policy,dev}.h devmodel/rng/state.h core/{cc,log,vmm}.h core/api/http.h
	echo '#include "devmodel/common/dev.h"' >devmodel/blk/dev.c
	echo '#include "devmodel/blk/dev.h"' >>devmodel/blk/dev.c
	printf '#include "%s"\n' core/box/box.h devmodel/blk/state.h devmodel/common/policies.h >core/box/box.c
	printf '#include "%s"\n' core/cc.h snapshot/envelope.h >core/box/box.h
	printf 'static void f(int a,\n\t\tint b)\n{\n}\n' >tests/test_f.c
}

judge() { # judge WANT CHECK WHAT
	local status=0

	"$here/$2" "$tree" >"$tree/out" || status=$?
	if [ "$status" -eq "$1" ]; then
		passed=$((passed + 1))
	else
		echo "FAIL $2 says $status, not $1: $3"
		failed=$((failed + 1))
	fi
}

breach() { # breach FILE INCLUDE
	fresh
	echo "#include $2" >>"$1"
	judge 1 includes.py "$1 includes $2"
}

fresh
judge 0 includes.py "a clean tree"
judge 0 sizes.py "a clean tree"

breach devmodel/abi/gpa.h '<stdio.h>'
breach devmodel/abi/gpa.h '"snapshot/codec.h"'
breach devmodel/blk/dev.c '"core/cc.h"'
breach devmodel/blk/dev.c '"snapshot/envelope.h"'
breach devmodel/blk/dev.c '"hotplug/memplug.h"'
breach devmodel/blk/dev.c '"devmodel/rng/state.h"'
breach devmodel/common/dev.h '"devmodel/blk/state.h"'
breach core/box/box.c '"devmodel/common/dev.h"'
breach core/box/box.c '"devmodel/blk/dev.h"'
breach core/box/box.c '"hotplug/memplug.h"'
breach core/box/box.c '"core/vmm.h"'
breach core/log.h '"core/box/box.h"'
breach core/box/box.c '"snapshot/image.h"'
breach core/box/box.c '"core/api/http.h"'
breach core/log.h '"core/box/box.h"'
breach snapshot/codec.c '"core/cc.h"'
breach snapshot/envelope.h '"devmodel/abi/gpa.h"'
breach snapshot/image.h '"hotplug/memplug.h"'
breach hotplug/memplug.h '"core/api/http.h"'
breach core/cc.h '"core/box/box.h"'
breach core/log.h '"core/log.h"'
breach core/box/box.c '"core/absent.h"'
breach core/box/box.c '"box.h"'
breach core/box/box.c '<core/cc.h>'
breach core/vhost/protocol.h '<stdbool.h>'
fresh
echo '#include "core/log.h"' >core/cc.h
echo '#include "core/cc.h"' >core/log.h
judge 1 includes.py "two headers that include each other"
fresh
: >snapshot/codec.c
judge 1 includes.py "a source without its own header"
fresh
mkdir core/other
: >core/other/new.c
judge 1 includes.py "a folder that no rule speaks of"
rm -rf "${tree:?}"/*
judge 1 includes.py "an empty tree"
judge 1 sizes.py "an empty tree"

fresh
{ printf 'static int g(void)\n{\n' && seq -f '	; /* %g */' 58 && echo '}'; } >core/g.c
judge 0 sizes.py "a function of 60 lines"
sed -i 's/^{/{\n	;/' core/g.c
judge 1 sizes.py "a function of 61 lines"
fresh
seq -f '/* %g */' 600 >core/g.c
judge 0 sizes.py "a file of 600 lines"
echo >>core/g.c
judge 1 sizes.py "a file of 601 lines"

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
