/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a whole VM costs beside its memory: VMM, spawner, four devices and their standbys.
 */
#ifndef MAYFLY_BENCH_WHOLE_H
#define MAYFLY_BENCH_WHOLE_H

#include <stdint.h>

#include "benchmarks/footprint.h"
#include "benchmarks/report.h"

struct whole {
	const char *
		without_kvm; /* why there was no VM, and a stand-in was measured; NULL: there was */
	struct footprint step;      /* of the system's counters, for one VM; the median of each */
	struct footprint_maps maps; /* of the VM with the median of what is private */
	int64_t vmm_anon, boxes_anon;
};

/* Of `mayfly run` with a guest (benchmarks/guest.h); where KVM is not to be had, of this program with
 * "--vm", which calls whole_stand_in().  0 or -errno. */
int whole_measure(struct whole *whole);
/* "whole_kib", and its parts in "whole". */
void whole_report(struct report *report, const struct whole *whole);

/* The supervisor with four devices, no KVM, no API: writes a byte to stdout when all serve and all
 * standbys stand by, ends at the end of stdin.  An exit status. */
int whole_stand_in(void);

#endif
