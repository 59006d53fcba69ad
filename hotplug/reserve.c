/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Three threads meet here, under the memory's lock.
 *
 * The supervisor's brings questions, and must not wait: one that costs no time is answered at once, one for
 * which pages have to come or go is left to the giver.  Only one is under way, since the guest's requests
 * are done one by one; should its box die meanwhile, the successor's question is kept and judged when the
 * first is done, and finds its answer there (virtio_mem.h).
 *
 * The giver gives pages: to the guest (huge pages, which the host may not have, and a mapping of what it has
 * not would end in SIGBUS), or back to the host.  It is a thread of its own, because an epoch waits for the
 * device of this very reserve to be handed off, which waits for its answer.
 *
 * The worker makes the epochs.  What a guest brings about is rationed.
 */
#include "hotplug/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "core/cc.h"
#include "core/confine.h"
#include "core/log.h"
#include "core/ration.h"
#include "hotplug/memory_internal.h"

#define GIVE_BYTES (256ull << 20) /* at once: in between it is asked whether the VM ends */
#define TAKE 0                    /* modes of fallocate(): from the host .. */
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) /* .. and back to it */

static const struct ration epochs = { .burst = 4, .period_ns = NS_PER_S };

static const struct memmap_reserve *backing(const struct memory *m, const struct reserve *r)
{
	return &m->site.map->reserves[r - m->reserves];
}

/* ---- building ---- */

int reserve_add(struct memory *m, const struct reserve_spec *spec, const char **what)
{
	struct reserve *r = &m->reserves[m->reserve_count];
	const struct memmap_reserve *b = backing(m, r);
	const struct vmem_spec vmem = { .addr = b->gpa,
					.region_bytes = b->bytes,
					.block_bytes = spec->block_bytes,
					.page_bytes = b->page_bytes,
					.slot_bytes = b->slot_bytes,
					.node = spec->node };
	int ret;

	CHECK(m->reserve_count < m->site.map->reserve_count);
	*r = (struct reserve){ .spec = *spec };
	ret = vmem_init(&r->vmem, &vmem, what);
	if (ret == 0 && !m->has_giver) {
		*what = "cannot start a thread";
		ret = -pthread_create(&m->giver, NULL, reserve_giver, m);
		m->has_giver = ret == 0;
	}
	if (ret == 0)
		m->reserve_count++;
	else
		vmem_free(&r->vmem);
	return ret;
}

void reserves_free(struct memory *m)
{
	while (m->reserve_count > 0)
		vmem_free(&m->reserves[--m->reserve_count].vmem);
}

void reserve_config(struct memory *m, uint32_t reserve, struct mem_config *config)
{
	vmem_config(&m->reserves[reserve].vmem, config);
}

void reserve_attach(struct memory *m, uint32_t reserve, const struct reserve_guest *guest)
{
	pthread_mutex_lock(&m->lock);
	m->reserves[reserve].guest = *guest;
	pthread_mutex_unlock(&m->lock);
}

/* ---- requests of the guest; with the lock held ---- */

static void publish(const struct reserve *r, bool tell)
{
	struct virtio_mem_space space;

	if (r->guest.space == NULL)
		return;
	vmem_space(&r->vmem, &space);
	r->guest.space(r->guest.ctx, &space, tell);
}

static bool takes_time(const struct reserve *r)
{
	const bool huge = r->spec.pages == MEM_PAGES_2M || r->spec.pages == MEM_PAGES_1G;

	return r->result.punch.bytes != 0 || (r->result.plugged.bytes != 0 && huge);
}

/* True: it has its answer, in r->result. */
static bool judge(struct memory *m, struct reserve *r, const struct question *question)
{
	const uint64_t usable = r->vmem.usable_bytes;
	struct mem_ask ask;

	CHECK(mem_ask_parse(question->asked.value, question->asked.detail, &ask));
	vmem_ask(&r->vmem, &ask, &r->result);
	r->question = *question;
	if (r->result.changed) {
		r->active_ns = now_ns();
		publish(r, r->vmem.usable_bytes != usable);
	}
	r->owes = takes_time(r);
	if (r->result.changed || r->owes)
		pthread_cond_broadcast(&m->changed);
	return !r->owes;
}

static bool judge_next(struct memory *m, struct reserve *r)
{
	const struct question question = r->next;

	r->has_next = false;
	return judge(m, r, &question);
}

/* Who asked may be gone; its successor asks again. */
static void answer(const struct question *question, uint32_t value)
{
	(void)device_answer_question(question->dev, &question->asked, value);
}

void reserve_asked(struct memory *m, uint32_t reserve, struct device *dev,
		   const struct device_question *asked)
{
	const struct question question = { dev, *asked };
	struct reserve *r = &m->reserves[reserve];
	bool done = false;
	uint32_t value;

	pthread_mutex_lock(&m->lock);
	if (r->owes) {
		r->next = question;
		r->has_next = true;
	} else {
		done = judge(m, r, &question);
	}
	value = r->result.answer;
	pthread_mutex_unlock(&m->lock);
	if (done)
		answer(&question, value);
}

void reserve_forget(struct memory *m, uint32_t reserve)
{
	pthread_mutex_lock(&m->lock);
	vmem_forget(&m->reserves[reserve].vmem);
	m->reserves[reserve].has_next = false;
	pthread_mutex_unlock(&m->lock);
}

/* ---- pages ---- */

/* Without the lock. 0 or -errno. */
static int give(struct memory *m, const struct memmap_reserve *b, const struct vmem_range *range,
		int mode)
{
	uint64_t at = range->addr - b->gpa, left = range->bytes;
	int ret = 0;

	while (left > 0 && ret == 0 && !__atomic_load_n(&m->ending, __ATOMIC_RELAXED)) {
		const uint64_t bytes = left < GIVE_BYTES ? left : GIVE_BYTES;

		if (fallocate(b->fd, mode, (off_t)at, (off_t)bytes) != 0)
			ret = errno == EINTR ? 0 : -errno;
		else
			at += bytes, left -= bytes;
	}
	return ret;
}

/* All of it, or none. */
static int take_pages(struct memory *m, const struct reserve *r, const struct vmem_range *range)
{
	const int ret = give(m, backing(m, r), range, TAKE);

	if (ret == 0)
		return 0;
	log_warn("%s: the guest's pages are not to be had: %s", r->spec.id, strerror(-ret));
	(void)give(m, backing(m, r), range, PUNCH);
	return ret;
}

static void punch_pages(struct memory *m, const struct reserve *r, const struct vmem_range *range)
{
	const int ret = give(m, backing(m, r), range, PUNCH);

	if (ret != 0)
		log_error("%s: the host does not take pages back: %s", r->spec.id, strerror(-ret));
}

/* What the guest's request is about comes or goes; with the lock held, which is let go of meanwhile. */
static void pass_pages(struct memory *m, struct reserve *r)
{
	const struct vmem_result result = r->result;
	int ret = 0;

	pthread_mutex_unlock(&m->lock);
	if (result.plugged.bytes != 0)
		ret = take_pages(m, r, &result.plugged);
	else
		punch_pages(m, r, &result.punch);
	pthread_mutex_lock(&m->lock);
	if (ret != 0) {
		vmem_take_back(&r->vmem, &r->result);
		publish(r, false);
	}
}

/* The same: what is owed, and what was asked meanwhile. */
static void serve(struct memory *m, struct reserve *r)
{
	pass_pages(m, r);
	for (bool done = true; done;) {
		const struct question question = r->question;
		const uint32_t value = r->result.answer;
		const bool more = r->has_next;

		r->owes = more; /* what is asked now is judged after that, or at once */
		pthread_cond_broadcast(&m->changed);
		pthread_mutex_unlock(&m->lock);
		answer(&question, value);
		pthread_mutex_lock(&m->lock);
		done = more && r->has_next;
		if (done) {
			done = judge_next(m, r);
		} else if (more) { /* the driver has reset its device, which may be waited for */
			r->owes = false;
			pthread_cond_broadcast(&m->changed);
		}
	}
}

static struct reserve *find_owing(struct memory *m)
{
	for (uint32_t i = 0; i < m->reserve_count; i++) {
		if (m->reserves[i].owes)
			return &m->reserves[i];
	}
	return NULL;
}

void *reserve_giver(void *arg)
{
	struct memory *m = arg;

	confine_thread(CONFINE_MEMORY);
	pthread_mutex_lock(&m->lock);
	while (!m->ending) {
		struct reserve *r = find_owing(m);

		if (r != NULL)
			serve(m, r);
		else
			pthread_cond_wait(&m->changed, &m->lock);
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

void reserve_machine_reset(struct memory *m, uint32_t reserve)
{
	struct reserve *r = &m->reserves[reserve];

	pthread_mutex_lock(&m->lock);
	r->has_next = false;
	while (r->owes && !m->ending)
		pthread_cond_wait(&m->changed, &m->lock);
	const struct vmem_range range = vmem_machine_reset(&r->vmem);

	publish(r, false);
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
	punch_pages(m, r, &range);
}

/* ---- epochs; with the lock held, which is let go of meanwhile ---- */

static int grow(struct memory *m, struct reserve *r, uint64_t bytes)
{
	int ret;

	r->step = memory_step_of(r->spec.id, &r->change);
	r->step.what = "memory: no more regions";
	ret = memmap_plan_reserve(m->site.map, (uint32_t)(r - m->reserves), bytes, &m->next);
	if (ret != 0)
		return ret;
	pthread_mutex_unlock(&m->lock);
	ret = memory_change_forth(m, &r->step);
	pthread_mutex_lock(&m->lock);
	if (r->step.accepted)
		CHECK(vmem_mapped(&r->vmem, bytes) == 0);
	return ret;
}

static void shrink(struct memory *m, struct reserve *r, uint64_t bytes)
{
	struct revoke_proof proof = { 0 };
	int ret;

	/* Before there is a process that does not have it. */
	CHECK(vmem_mapped(&r->vmem, bytes) == 0);
	ret = memmap_plan_reserve(m->site.map, (uint32_t)(r - m->reserves), bytes, &m->next);
	CHECK(ret == 0);
	pthread_mutex_unlock(&m->lock);
	r->step = memory_step_of(r->spec.id, &r->shrunk);
	ret = memory_change_back(m, &r->step);
	if (ret == 0 && (revoke_tail(backing(m, r)->fd, bytes, &proof) != 0 || proof.blocks != 0 ||
			 proof.maps != 0))
		log_error("%s: unplugged, but not proven to be gone: %llu blocks, %u mappings",
			  r->spec.id, (unsigned long long)proof.blocks, proof.maps);
	pthread_mutex_lock(&m->lock);
	r->proof = proof;
}

/* What it takes that the guest may be told. */
static int make_room(struct memory *m, struct reserve *r)
{
	const uint64_t plugged = r->vmem.plugged_bytes, wanted = r->wanted_bytes;
	const struct vmem_next next = vmem_before(&r->vmem, wanted);
	int ret = 0;

	r->step = memory_step_of(r->spec.id, &r->change);
	if (wanted > plugged)
		ret = memmap_check_free(r->spec.pages, wanted - plugged, &r->step.what);
	if (ret == 0 && next.step == VMEM_GROW)
		ret = grow(m, r, next.bytes);
	return ret;
}

static void fulfil(struct memory *m, struct reserve *r)
{
	r->ret = make_room(m, r);
	if (r->ret == 0) {
		CHECK(vmem_request(&r->vmem, r->wanted_bytes) == 0);
		r->active_ns = now_ns();
		publish(r, true);
	}
	r->wanted = false;
	pthread_cond_broadcast(&m->changed);
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What the guest has brought about.  True: an epoch was made. */
static bool follow(struct memory *m, struct reserve *r, uint64_t *at_ns)
{
	const uint64_t now = now_ns(), patience = r->active_ns + RESERVE_IDLE_MS * NS_PER_MS;
	const struct vmem_next next = vmem_next(&r->vmem, now >= patience);

	if (next.step == VMEM_NOTHING) {
		if (r->vmem.unplugged && now < patience)
			*at_ns = lesser(*at_ns, patience);
		return false;
	}
	if (r->due_at_ns == 0)
		r->due_at_ns = ration_take(&epochs, &r->due_ns, now);
	if (now < r->due_at_ns) {
		*at_ns = lesser(*at_ns, r->due_at_ns);
		return false;
	}
	r->due_at_ns = 0;
	if (next.step == VMEM_SHRINK)
		shrink(m, r, next.bytes);
	else if (grow(m, r, next.bytes) != 0)
		log_error("%s: cannot be given more again: %s %s", r->spec.id, r->step.what,
			  r->step.who);
	return true;
}

bool reserve_change(struct memory *m, uint64_t *at_ns)
{
	*at_ns = UINT64_MAX;
	for (uint32_t i = 0; i < m->reserve_count; i++) {
		if (m->reserves[i].wanted) {
			fulfil(m, &m->reserves[i]);
			return true;
		}
	}
	for (uint32_t i = 0; i < m->reserve_count; i++) {
		if (follow(m, &m->reserves[i], at_ns))
			return true;
	}
	return false;
}

/* ---- the operator ---- */

#define IN_MIB(bytes) ((unsigned long long)((bytes) >> 20))

static int check_request(const struct memory *m, const struct reserve *r, uint64_t bytes,
			 struct option_error *error)
{
	const char *why;

	if (vmem_check(&r->vmem, bytes, &why) == 0)
		return 0;
	if (bytes > backing(m, r)->bytes)
		return option_fail(error, "requested_size_mib: no more than %llu (total_size_mib)",
				   IN_MIB(backing(m, r)->bytes));
	return option_fail(error, "requested_size_mib: must be a multiple of %llu (block_size_mib)",
			   IN_MIB(r->spec.block_bytes));
}

static int say_ending(struct option_error *error)
{
	option_fail(error, "the VM is ending");
	return -ECANCELED;
}

static int request(struct memory *m, struct reserve *r, uint64_t bytes,
		   struct memory_change *change, struct option_error *error)
{
	r->wanted = true;
	r->wanted_bytes = bytes;
	pthread_cond_broadcast(&m->changed);
	while (r->wanted && !m->ending)
		pthread_cond_wait(&m->changed, &m->lock);
	if (r->wanted || r->ret == -ECANCELED)
		return say_ending(error);
	if (r->ret != 0)
		option_fail(error, "%s: %s%s%s", r->spec.id, r->step.what,
			    r->step.who[0] != '\0' ? ": " : "", r->step.who);
	*change = r->change;
	return r->ret;
}

int reserve_request(struct memory *m, uint32_t reserve, uint64_t bytes,
		    struct memory_change *change, struct option_error *error)
{
	struct reserve *r = &m->reserves[reserve];
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = check_request(m, r, bytes, error);
	while (ret == 0 && r->taken && !m->ending)
		pthread_cond_wait(&m->changed, &m->lock);
	/* What the last asked for may be under way still: nothing is to be put in its place. */
	if (ret == 0 && m->ending)
		ret = say_ending(error);
	if (ret == 0) {
		r->taken = true;
		ret = request(m, r, bytes, change, error);
		r->taken = false;
		pthread_cond_broadcast(&m->changed);
	}
	pthread_mutex_unlock(&m->lock);
	return ret;
}

uint32_t reserve_statuses(struct memory *m, struct reserve_status *statuses)
{
	pthread_mutex_lock(&m->lock);
	for (uint32_t i = 0; i < m->reserve_count; i++) {
		const struct reserve *r = &m->reserves[i];
		const struct memmap_reserve *b = backing(m, r);

		statuses[i] = (struct reserve_status){
			.spec = r->spec,
			.gpa = b->gpa,
			.total_bytes = b->bytes,
			.slot_bytes = b->slot_bytes,
			.plugged_bytes = r->vmem.plugged_bytes,
			.requested_bytes = r->vmem.requested_bytes,
			.usable_bytes = r->vmem.usable_bytes,
			.mapped_bytes = r->vmem.mapped_bytes,
			.shrunk_epoch = r->shrunk.epoch,
			.proof = r->proof,
		};
	}
	const uint32_t n = m->reserve_count;

	pthread_mutex_unlock(&m->lock);
	return n;
}
