/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/rig/bareblk.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cc.h"

int bareblk_create(struct bareblk *blk, struct guestmem *mem, uint64_t bytes)
{
	const struct ringdrv_config config = {
		.features = BAREBLK_FEATURES,
		.size = 256,
		.in_order = true,
	};
	const int ret = ringdrv_init(&blk->ring, mem, &config);

	blk->bytes = bytes;
	blk->image = memfd_create("image", MFD_CLOEXEC);
	if (blk->image < 0 || ftruncate(blk->image, (off_t)bytes) != 0)
		return -errno;
	return ret;
}

int bareblk_go(struct bareblk *blk, const struct guestmem *mem, const struct dev_ops *ops, int cpu)
{
	const union dev_config config = {
		.blk = { .bytes = blk->bytes, .flags = BLK_FLUSH, .align = 1 },
	};
	struct ctl_queue queue;

	ringdrv_describe(&blk->ring, &queue);
	return inproc_start(&blk->inproc, &(struct inproc_config){
						  .ops = ops,
						  .mem = mem,
						  .queues = 1,
						  .kick = &blk->ring.fd_kick,
						  .call = &blk->ring.fd_call,
						  .backends = &blk->image,
						  .backend_count = 1,
						  .config = &config,
						  .features = BAREBLK_FEATURES,
						  .rings = &queue,
						  .cpu = cpu,
					  });
}

void bareblk_destroy(struct bareblk *blk)
{
	if (blk->inproc.running)
		inproc_stop(&blk->inproc);
	ringdrv_free(&blk->ring);
	if (blk->image > 0) /* 0: it is all zero */
		cc_close(&blk->image);
}
