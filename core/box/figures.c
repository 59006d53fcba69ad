/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted of replacements: the last times for percentiles, all of them in histograms. */
#include <string.h>

#include "core/box/internal.h"
#include "core/cc.h"

static void histogram_add(struct device_histogram *h, uint32_t us)
{
	static const uint32_t bounds[] = {
#define BUCKET_BOUND(us) us,
		DEVICE_BUCKETS(BUCKET_BOUND)
#undef BUCKET_BOUND
	};
	size_t i = 0;

	while (i < ARRAY_SIZE(bounds) && us > bounds[i])
		i++;
	h->counts[i]++;
	h->sum_us += us;
}

void device_sample(struct device *dev, const struct replacement *r)
{
	if (dev->samples == DEVICE_SAMPLES) {
		dev->samples--;
		memmove(dev->switch_us, dev->switch_us + 1, dev->samples * sizeof(uint32_t));
		memmove(dev->drain_us, dev->drain_us + 1, dev->samples * sizeof(uint32_t));
	}
	dev->switch_us[dev->samples] = r->switch_us;
	dev->drain_us[dev->samples] = r->drain_us;
	dev->samples++;
	dev->replaced[r->reason]++;
	dev->cold += r->cold;
	histogram_add(&dev->switches[r->planned ? PASSAGE_HANDOFF : PASSAGE_RECOVERY],
		      r->switch_us);
	if (r->planned)
		histogram_add(&dev->drains, r->drain_us);
}
