/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hotplug/virtio_mem: whatever a guest asks, a device process says of where it stands, and an operator
 * wants, in any order.  What is plugged stays inside what is mapped and usable; nothing is plugged beyond
 * what is requested; what is punched is not plugged; a repetition changes nothing.
 *
 * Input: block and region size, then commands: a byte, and what it takes.
 */
#include <string.h>

#include "hotplug/virtio_mem.h"
#include "tests/fuzz/fuzz.h"

#define ADDR (1ull << 40)

struct input {
	const uint8_t *data;
	size_t left;
};

static uint64_t take(struct input *in, size_t bytes)
{
	uint64_t value = 0;
	const size_t n = bytes < in->left ? bytes : in->left;

	memcpy(&value, in->data, n);
	in->data += n;
	in->left -= n;
	return value;
}

static uint64_t sum_plugged(const struct vmem *v, uint64_t *end)
{
	struct vmem_range range;
	uint64_t at = 0, sum = 0;

	*end = 0;
	while (vmem_plugged(v, &at, &range)) {
		FUZZ_CHECK(range.bytes != 0 && range.addr + range.bytes == ADDR + at);
		sum += range.bytes;
		*end = at;
	}
	return sum;
}

static uint64_t sum_unplugged(const struct vmem *v)
{
	struct vmem_range range;
	uint64_t at = 0, sum = 0;

	while (vmem_unplugged(v, &at, &range))
		sum += range.bytes;
	return sum;
}

static void check(const struct vmem *v)
{
	uint64_t end;
	const uint64_t sum = sum_plugged(v, &end);

	FUZZ_CHECK(sum == v->plugged_bytes && sum + sum_unplugged(v) == v->spec.region_bytes);
	FUZZ_CHECK(end <= v->mapped_bytes && end <= v->usable_bytes);
	FUZZ_CHECK(v->mapped_bytes <= v->spec.region_bytes);
	FUZZ_CHECK(v->requested_bytes <= v->usable_bytes &&
		   v->usable_bytes <= v->spec.region_bytes);
}

static void check_unplugged(const struct vmem *v, const struct vmem_range *range)
{
	struct vmem_range plugged;
	uint64_t at = 0;

	if (range->bytes == 0)
		return;
	FUZZ_CHECK(range->addr >= ADDR && range->addr + range->bytes <= ADDR + v->mapped_bytes);
	while (vmem_plugged(v, &at, &plugged))
		FUZZ_CHECK(plugged.addr + plugged.bytes <= range->addr ||
			   range->addr + range->bytes <= plugged.addr);
}

/* An address is near the region, or is anything. */
static void do_ask(struct vmem *v, struct input *in)
{
	struct vmem_result result, again;
	const uint64_t plugged = v->plugged_bytes;
	struct mem_ask ask;

	if (!mem_ask_parse((uint32_t)take(in, 4), 0, &ask))
		return;
	const uint64_t where = take(in, 2);

	ask.addr = where == 0xffff ? take(in, 8) : ADDR + where * (v->spec.block_bytes / 2);
	vmem_ask(v, &ask, &result);
	FUZZ_CHECK((uint16_t)result.answer <= MEM_ERROR && result.answer >> 16 <= MEM_MIXED);
	FUZZ_CHECK(!result.repeated || (!result.changed && result.punch.bytes == 0));
	FUZZ_CHECK(result.changed || v->plugged_bytes == plugged);
	FUZZ_CHECK(v->plugged_bytes <= plugged || v->plugged_bytes <= v->requested_bytes);
	check_unplugged(v, &result.punch);
	check(v);
	vmem_ask(v, &ask, &again);
	FUZZ_CHECK(again.repeated && again.answer == result.answer && !again.changed);
}

static void do_request(struct vmem *v, struct input *in)
{
	const uint64_t bytes = take(in, 2) * (v->spec.block_bytes / 2);
	const struct vmem_next next = vmem_before(v, bytes);
	const char *why;

	if (vmem_check(v, bytes, &why) != 0) {
		FUZZ_CHECK(vmem_request(v, bytes) != 0);
		return;
	}
	FUZZ_CHECK((vmem_request(v, bytes) == 0) == (next.step == VMEM_NOTHING));
	if (next.step != VMEM_NOTHING)
		FUZZ_CHECK(next.step == VMEM_GROW && vmem_mapped(v, next.bytes) == 0 &&
			   vmem_request(v, bytes) == 0);
}

static void do_next(struct vmem *v, bool idle)
{
	const struct vmem_next next = vmem_next(v, idle);

	if (next.step == VMEM_NOTHING)
		return;
	FUZZ_CHECK((next.step == VMEM_GROW) == (next.bytes > v->mapped_bytes));
	FUZZ_CHECK(vmem_mapped(v, next.bytes) == 0);
	FUZZ_CHECK(vmem_next(v, idle).step == VMEM_NOTHING);
}

static void command(struct vmem *v, struct input *in)
{
	switch (take(in, 1) % 16) {
	case 0:
		do_request(v, in);
		break;
	case 1:
		do_next(v, take(in, 1) & 1);
		break;
	case 2:
		(void)vmem_mapped(v, take(in, 2) * (v->spec.block_bytes / 2));
		break;
	case 3:
		v->busy = take(in, 1) & 1;
		break;
	case 4:
		vmem_forget(v);
		break;
	case 5:
		vmem_machine_reset(v);
		FUZZ_CHECK(v->plugged_bytes == 0);
		break;
	default:
		do_ask(v, in);
	}
	check(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	const uint64_t block = 1ull << (20 + take(&in, 1) % 4);
	const struct vmem_spec spec = { .addr = ADDR,
					.region_bytes = take(&in, 2) % 1024 * block,
					.block_bytes = block,
					.page_bytes = 4096,
					.slot_bytes = block };
	struct vmem v;
	const char *why;

	if (vmem_init(&v, &spec, &why) != 0)
		return -1;
	check(&v);
	for (int i = 0; i < 200 && in.left > 0; i++)
		command(&v, &in);
	vmem_free(&v);
	return 0;
}
