/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (virtio 1.2 section 5.5), what the device program and the VMM both have to know.  A
 * balloon generation leaves nothing to its successor: what is in flight is in the rings.
 */
#ifndef MAYFLY_DEVMODEL_BALLOON_STATE_H
#define MAYFLY_DEVMODEL_BALLOON_STATE_H

#include <stdint.h>

/* Feature bits (section 5.5.3).  Which queues there are follows from what was negotiated (5.5.2). */
#define VIRTIO_BALLOON_F_STATS_VQ 1
#define VIRTIO_BALLOON_F_DEFLATE_ON_OOM 2
#define VIRTIO_BALLOON_F_REPORTING 5

/* Of one request; what is beyond stays with the guest, which is no harm to anybody. */
#define BALLOON_PFNS_MAX 4096u            /* Linux gives 256 at a time */
#define BALLOON_REPORT_MAX (256ull << 20) /* bytes; Linux reports 32 blocks of at most 4 MiB */

/* Statistics (section 5.5.6.3): tag, name as the API has it.  Others that a driver may know are passed
 * over. */
#define BALLOON_NUMBERS(X)                                                                         \
	X(0, swap_in)                                                                              \
	X(1, swap_out)                                                                             \
	X(2, major_faults)                                                                         \
	X(3, minor_faults)                                                                         \
	X(4, free_memory)                                                                          \
	X(5, total_memory)                                                                         \
	X(6, available_memory)                                                                     \
	X(7, disk_caches)                                                                          \
	X(8, hugetlb_allocations)                                                                  \
	X(9, hugetlb_failures)

#define BALLOON_STAT_ONE(tag, name) +1
#define BALLOON_STAT_COUNT (0u BALLOON_NUMBERS(BALLOON_STAT_ONE))

#endif
