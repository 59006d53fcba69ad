/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * Memory that comes and goes under six devices, as their driver feels it.
 *
 * Theory of operation.  Six disks serve; the first has eight verified 4 KiB requests outstanding, whose
 * completions are watched, the others one each, from one thread.  The main thread adds a region, in the order
 * of hotplug/memory_change.c (KVM's slot by a VM of its own, timed apart), and when every device was
 * handed off writes and reads the last page of the new region through each of them, by a second queue:
 * only then it is visible.  Then it takes the region away again, until the kernel seals its memfd against
 * writing: only then nobody has it.  After each change there is a quiet window just as long.
 *
 * Populated memory is faulted in by this process before the clock starts: how fast a host gives out pages is
 * not the question.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "benchmarks/common.h"
#include "core/cc.h"
#include "core/log.h"
#include "core/machine/vm.h"

#define BOOT_BYTES (1ull << 30)
#define IMAGE_BYTES (16u << 20)
#define PROBE_BYTES 4096u
#define NEW_GPA (8ull << 30)
#define DISKS 6
#define DEPTH 8
#define WAIT_MS 20000
#define DRAIN_NS (60 * NS_PER_S)
#define OTHERS_NS NS_PER_MS /* how long one of the others is waited for .. */
#define OTHERS_US 500 /* .. and what lies between two of them: they are not to take the CPUs */
#define MIB (1ull << 20)
#define HUGE_MOST (8192 * MIB)
#define HUGE_LEAST (1024 * MIB)

struct figures {
	uint64_t changes;
	struct hist visible, change, pause, quiet, removed, slot, prepare, move;
};

static const struct size {
	const char *name;
	uint64_t bytes;
	bool sparse;
	uint32_t weight; /* how many of the changes, of those of all sizes */
} sizes[] = {
	{ "128MiB", 128 * MIB, false, 6 },
	{ "1GiB", 1024 * MIB, false, 3 },
	{ "64GiB-sparse", 65536 * MIB, true, 3 },
	{ "8GiB", 8192 * MIB, false, 1 },
};

struct disk {
	struct boxrig_blk blk;
	struct blkload load;
	gpa_t head; /* of probes: a header, and a status byte behind it */
	uint32_t switch_us;
};

struct bench {
	struct bench_rig rig;
	struct disk disks[DISKS];
	struct vm vm;
	bool has_vm;
	uint64_t most; /* of such pages: more cannot be had */
	pthread_t first, others;
	bool stop;
	int first_ret, others_ret;
	struct device_hooks hooks;
	struct figures figures[ARRAY_SIZE(sizes)];
	struct blkload_stats loads;
};

/* ---- load ---- */

static void *first_main(void *arg)
{
	struct bench *b = arg;

	while (b->first_ret >= 0 && !__atomic_load_n(&b->stop, __ATOMIC_RELAXED))
		b->first_ret = blkload_step(&b->disks[0].load, NS_PER_S);
	return NULL;
}

static void *others_main(void *arg)
{
	struct bench *b = arg;

	for (uint32_t i = 1; b->others_ret >= 0 && !__atomic_load_n(&b->stop, __ATOMIC_RELAXED);
	     i = i % (DISKS - 1) + 1) {
		b->others_ret = blkload_step(&b->disks[i].load, OTHERS_NS);
		bench_sleep_us(OTHERS_US);
	}
	return NULL;
}

static void replaced(void *ctx, const struct replacement *r)
{
	struct disk *d = ctx;

	__atomic_store_n(&d->switch_us, r->switch_us, __ATOMIC_RELAXED);
}

static int make_disk(struct bench *b, uint32_t i, uint64_t seed)
{
	struct disk *d = &b->disks[i];
	struct blkload_config load = bench_blk_load(IMAGE_BYTES - PROBE_BYTES, seed + i);
	char name[16];
	const struct boxrig_blk_config config = {
		.name = name, .bytes = IMAGE_BYTES, .queues = 2, .hooks = &b->hooks, .ctx = d
	};
	int ret;

	snprintf(name, sizeof(name), "disk%u", i);
	ret = boxrig_blk_create(&b->rig.rig, &config, &d->blk);
	if (ret == 0)
		ret = guestmem_alloc(&b->rig.rig.mem, 32, 32, &d->head);
	if (ret == 0)
		ret = blkload_init(&d->load, &b->rig.rig.mem, &load);
	if (ret == 0)
		ret = blkload_add_queue(&d->load, &d->blk.rings[0], i == 0 ? DEPTH : 1);
	return ret != 0 ? ret : boxrig_blk_go(&d->blk);
}

static int start(struct bench *b, enum guestmem_pages pages, uint64_t seed)
{
	const char *what = "";
	int ret;

	b->hooks.replaced = replaced;
	b->most = UINT64_MAX;
	ret = bench_rig_start(&b->rig, pages, BOOT_BYTES);
	if (ret == 0 && b->rig.huge && guestmem_huge_reserve(&b->rig.huge_pages, HUGE_MOST) != 0)
		b->most =
			guestmem_huge_reserve(&b->rig.huge_pages, HUGE_LEAST) == 0 ? HUGE_LEAST : 0;
	for (uint32_t i = 0; i < DISKS && ret == 0; i++)
		ret = make_disk(b, i, seed);
	if (ret == 0)
		ret = -pthread_create(&b->first, NULL, first_main, b);
	if (ret == 0)
		ret = -pthread_create(&b->others, NULL, others_main, b);
	if (ret == 0) {
		b->has_vm = vm_create(&b->vm, &what) == 0;
		if (!b->has_vm)
			fprintf(stderr, "bench-hotplug: no memory slots: %s\n", what);
	}
	return ret;
}

static int stop(struct bench *b)
{
	int ret;

	__atomic_store_n(&b->stop, true, __ATOMIC_RELAXED);
	pthread_join(b->first, NULL);
	pthread_join(b->others, NULL);
	ret = b->first_ret < 0 ? b->first_ret : b->others_ret < 0 ? b->others_ret : 0;
	for (uint32_t i = 0; i < DISKS && ret == 0; i++) {
		struct disk *d = &b->disks[i];
		struct blkload_stats stats;

		ret = blkload_drain(&d->load, DRAIN_NS);
		if (ret == 0)
			ret = blkload_verify(&d->load, DRAIN_NS);
		blkload_stats(&d->load, &stats);
		b->loads.completed += stats.completed;
		b->loads.lost += stats.lost + stats.errors;
		b->loads.duplicated += stats.duplicated;
		b->loads.corrupted += stats.corrupted;
	}
	return ret;
}

static void release(struct bench *b)
{
	for (uint32_t i = 0; i < DISKS; i++) {
		boxrig_blk_destroy(&b->disks[i].blk);
		blkload_free(&b->disks[i].load);
	}
	if (b->has_vm)
		vm_destroy(&b->vm);
	bench_rig_stop(&b->rig);
}

/* ---- a page through a device ---- */

/* Writes the page at gpa to the disk's last sectors, or reads it from there. 0 or -errno. */
static int transfer(struct bench *b, struct disk *d, uint64_t gpa, bool write)
{
	struct ringdrv_queue *ring = &d->blk.rings[1];
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} *head = guestmem_ptr(&b->rig.rig.mem, d->head, 32);
	uint8_t *status = (uint8_t *)(head + 1);
	const struct ringdrv_seg seg[] = { { d->head.raw, sizeof(*head) },
					   { gpa, PROBE_BYTES },
					   { d->head.raw + sizeof(*head), 1 } };
	const struct ringdrv_chain chain = { .seg = seg,
					     .readable = write ? 2 : 1,
					     .writable = write ? 1 : 2 };
	struct ringdrv_done done;
	int ret;

	*head = (typeof(*head)){ .type = write, .sector = (IMAGE_BYTES - PROBE_BYTES) / 512 };
	*status = 0xff;
	ret = ringdrv_add(ring, &chain);
	if (ret != 0)
		return ret;
	ringdrv_publish(ring);
	(void)ringdrv_kick(ring);
	while (ringdrv_reap(ring, &done) != 1) {
		ret = ringdrv_wait(ring, WAIT_MS * NS_PER_MS);
		if (ret != 1)
			return ret < 0 ? ret : -ETIMEDOUT;
	}
	return *status == 0 ? 0 : -EIO;
}

static int probe(struct bench *b, uint64_t bytes)
{
	const uint64_t gpa = NEW_GPA + bytes - PROBE_BYTES;
	uint32_t *page = guestmem_ptr(&b->rig.rig.mem, gpa_make(gpa), PROBE_BYTES);
	int ret = 0;

	for (uint32_t i = 0; i < DISKS && ret == 0; i++) {
		for (uint32_t k = 0; k < PROBE_BYTES / 4; k++)
			page[k] = (k + i) * 2654435761u;
		ret = transfer(b, &b->disks[i], gpa, true);
		memset(page, 0, PROBE_BYTES);
		if (ret == 0)
			ret = transfer(b, &b->disks[i], gpa, false);
		for (uint32_t k = 0; k < PROBE_BYTES / 4 && ret == 0; k++)
			ret = page[k] == (k + i) * 2654435761u ? 0 : -EIO;
	}
	return ret;
}

/* ---- changes ---- */

static const struct box_memory *memory_now(const struct bench *b)
{
	static struct box_memory memory;

	boxrig_memory(&b->rig.rig, &memory);
	return &memory;
}

static int set_slots(struct bench *b, struct figures *f)
{
	const uint64_t t0 = now_ns();
	const int ret = b->has_vm ? vm_set_memory(&b->vm, memory_now(b)) : 0;

	if (b->has_vm && f != NULL)
		hist_add(&f->slot, now_ns() - t0);
	return ret;
}

static int failed(const char *step, const char *who, int ret)
{
	fprintf(stderr, "bench-hotplug: %s: %s: %s\n", step, who, strerror(-ret));
	return ret;
}

/* Into the map as it is now. t: asked, prepared, moved. */
static int move(struct bench *b, enum epoch_until until, uint64_t t[3])
{
	int ret;

	t[0] = now_ns();
	ret = bench_move(&b->rig.rig, until, &t[1]);
	t[2] = now_ns();
	return ret;
}

static int note_pause(struct bench *b, struct figures *f, uint64_t t0, uint64_t t1)
{
	const struct blkload *load = &b->disks[0].load;
	int ret = bench_note_gap(load, t0, t1, false, &f->pause);

	return ret != 0 ? ret : bench_quiet_window(load, t1 - t0, &f->quiet);
}

static void note_switches(struct bench *b, struct figures *f)
{
	uint32_t worst = 0;

	for (uint32_t i = 0; i < DISKS; i++) {
		const uint32_t us = __atomic_load_n(&b->disks[i].switch_us, __ATOMIC_RELAXED);

		worst = us > worst ? us : worst;
	}
	hist_add(&f->change, worst * NS_PER_US);
}

static int add(struct bench *b, const struct size *size, enum guestmem_pages pages,
	       struct figures *f)
{
	uint64_t t[3], made, seen;
	int ret;

	made = now_ns();
	ret = guestmem_add(&b->rig.rig.mem, NEW_GPA, size->bytes, pages);
	made = now_ns() - made;
	if (ret == 0 && !size->sparse)
		ret = guestmem_populate(&b->rig.rig.mem);
	if (ret == 0)
		ret = set_slots(b, f);
	if (ret != 0)
		return failed("memory", size->name, ret);
	ret = move(b, EPOCH_MOVED, t);
	if (ret == 0)
		ret = probe(b, size->bytes);
	seen = now_ns();
	if (ret != 0)
		return ret;
	hist_add(&f->visible, made + seen - t[0]);
	hist_add(&f->prepare, t[1] - t[0]);
	hist_add(&f->move, t[2] - t[1]);
	note_switches(b, f);
	f->changes++;
	return note_pause(b, f, t[0], t[2]);
}

static int take(struct bench *b, struct figures *f)
{
	uint64_t t[3];
	int fd = -1, ret = guestmem_remove(&b->rig.rig.mem, NEW_GPA, &fd);

	if (ret == 0)
		ret = move(b, EPOCH_GONE, t);
	if (ret == 0)
		ret = set_slots(b, NULL);
	if (ret == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0)
		ret = failed("removed", "somebody still has it mapped", -errno);
	if (ret == 0)
		hist_add(&f->removed, now_ns() - t[0]);
	cc_close(&fd);
	return ret != 0 ? ret : note_pause(b, f, t[0], t[2]);
}

/* `count` changes of all sizes, or as many as there is time for. */
static int run(struct bench *b, enum guestmem_pages pages, uint64_t count, uint64_t end_ns)
{
	uint64_t weights = 0;
	int ret = set_slots(b, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		weights += sizes[i].weight;
	/* Round and round, so that the host's weather is the same for all. */
	for (uint64_t round = 0; round * weights < count && now_ns() < end_ns && ret == 0;
	     round++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes) && ret == 0; i++) {
			const struct size *size = &sizes[i];

			/* hugetlb gives none that it does not have. */
			if ((size->sparse && pages == GUESTMEM_2M) || size->bytes > b->most)
				continue;
			for (uint32_t n = 0; n < size->weight && now_ns() < end_ns && ret == 0;
			     n++) {
				ret = add(b, size, pages, &b->figures[i]);
				if (ret == 0)
					ret = take(b, &b->figures[i]);
			}
		}
	}
	return ret;
}

/* ---- the report ---- */

static json_t *size_object(const struct figures *f)
{
	static const struct {
		const char *name;
		size_t offset;
		double q;
	} lines[] = {
		{ "visible_us", offsetof(struct figures, visible), 0.5 },
		{ "visible_p99_us", offsetof(struct figures, visible), 0.99 },
		{ "prepare_us", offsetof(struct figures, prepare), 0.5 },
		{ "move_us", offsetof(struct figures, move), 0.5 },
		{ "switch_us", offsetof(struct figures, change), 0.5 },
		{ "switch_p99_us", offsetof(struct figures, change), 0.99 },
		{ "pause_p50_us", offsetof(struct figures, pause), 0.5 },
		{ "pause_p99_us", offsetof(struct figures, pause), 0.99 },
		{ "quiet_p50_us", offsetof(struct figures, quiet), 0.5 },
		{ "quiet_p99_us", offsetof(struct figures, quiet), 0.99 },
		{ "remove_us", offsetof(struct figures, removed), 0.5 },
		{ "slot_us", offsetof(struct figures, slot), 0.5 },
	};
	json_t *o = json_object();

	bench_put(o, "changes", json_integer((json_int_t)f->changes));
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const struct hist *hist = (const void *)((const char *)f + lines[i].offset);

		bench_put(o, lines[i].name, bench_us(hist, lines[i].q));
	}
	return o;
}

static json_t *pages_object(const struct bench *b)
{
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (b->figures[i].changes != 0)
			bench_put(o, sizes[i].name, size_object(&b->figures[i]));
	}
	return o;
}

static bool is_clean(const struct bench *b)
{
	return b->loads.lost + b->loads.duplicated + b->loads.corrupted == 0;
}

static bool run_pages(struct report *report, enum guestmem_pages pages, const char *name,
		      const struct bench_args *args)
{
	struct bench *b = calloc(1, sizeof(*b));
	bool clean;
	int ret;

	if (b == NULL)
		return false;
	ret = start(b, pages, args->shard + 1);
	if (ret == 0) {
		struct device_status status;

		ret = device_wait_standby(b->disks[0].blk.dev, WAIT_MS);
		device_status(b->disks[0].blk.dev, &status);
		if (ret == 0 && !bench_seal(report, &b->rig.rig, status.standby_pid))
			ret = -EPERM;
	}
	if (ret == 0)
		ret = run(b, b->rig.huge ? GUESTMEM_2M : GUESTMEM_4K, args->count / 2,
			  now_ns() + args->seconds * NS_PER_S / 2);
	if (ret != 0)
		fprintf(stderr, "bench-hotplug: %s: %s\n", name, strerror(-ret));
	const int load_ret = stop(b);

	clean = is_clean(b);
	report_json(report, name, pages_object(b));
	fprintf(stderr, "bench-hotplug: %s: %llu requests, %s\n", name,
		(unsigned long long)b->loads.completed,
		clean ? "all as they must be" : "NOT CLEAN");
	release(b);
	free(b);
	return ret == 0 && load_ret == 0 && clean;
}

int main(int argc, char **argv)
{
	struct bench_args args = { .count = 1000, .seconds = 240 };
	struct report *report;
	bool good;

	if (bench_args(argc, argv, &args) != 0)
		return 2;
	log_open(STDERR_FILENO, LOG_LEVEL_WARN);
	report = report_begin("hotplug");
	good = run_pages(report, GUESTMEM_4K, "4k", &args);
	good = run_pages(report, GUESTMEM_2M, "2m", &args) && good;
	report_fence(report, "parked");
	return report_end(report) == 0 && good ? 0 : 1;
}
