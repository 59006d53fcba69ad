/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  What a DIMM's state says is what its change has come to, and the worker's order of
 * business: it takes the first that is ADDING or REMOVING, without the lock, and leaves it PRESENT, FAILED
 * or FREE (memory_change.c).
 *
 * The worker is the only one that makes epochs, so that a change that lasts holds up other changes and
 * nothing else.
 */
#include "hotplug/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/cc.h"
#include "core/cond.h"
#include "core/confine.h"
#include "core/log.h"
#include "hotplug/memory_internal.h"

#define SCI_EVENT_EJECT 3      /* ACPI 6.4 table 5.165: eject request .. */
#define OSPM_EVENT_EJECT 0x103 /* .. and one by the guest itself, table 6.31 */
#define OST_IN_PROGRESS 0x84   /* table 6.33: ejection in progress */
#define OST_SUCCESS 0

const char *dimm_state_name(enum dimm_state state)
{
	static const char *const names[] = {
#define DIMM_STATE_NAME(NAME, name, text) name,
		DIMM_STATES(DIMM_STATE_NAME)
#undef DIMM_STATE_NAME
	};

	return names[state];
}

/* ---- the worker ---- */

/* With the lock held. */
static struct dimm *due(struct memory *m)
{
	for (uint32_t i = 0; i < MEMORY_DIMMS_MAX; i++) {
		const enum dimm_state state = m->dimms[i].state;

		if (state == DIMM_STATE_ADDING || state == DIMM_STATE_REMOVING)
			return &m->dimms[i];
	}
	return NULL;
}

static uint32_t slot_of(const struct memory *m, const struct dimm *d)
{
	return (uint32_t)(d - m->dimms);
}

static void settle(struct memory *m, struct dimm *d, enum dimm_state state, int ret)
{
	pthread_mutex_lock(&m->lock);
	d->state = state;
	d->ret = ret;
	if (state == DIMM_STATE_PRESENT)
		d->since_epoch = d->added.epoch;
	if (state == DIMM_STATE_FREE) {
		m->removal.change = d->removed;
		memcpy(m->removal.id, d->spec.id, sizeof(d->spec.id));
	}
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

static void carry_out(struct memory *m, struct dimm *d, bool removal)
{
	const struct memory_guest *guest = &m->site.guest;
	int ret = removal ? memory_change_remove(m, d) : memory_change_add(m, d);

	if (removal) {
		if (ret == 0) /* else the VM ends */
			settle(m, d, DIMM_STATE_FREE, 0);
		return;
	}
	if (ret != 0) {
		settle(m, d, DIMM_STATE_FAILED, ret);
		return;
	}
	/* Present before the guest hears of it: it may eject it at once. */
	settle(m, d, DIMM_STATE_PRESENT, 0);
	ret = guest->insert(guest->ctx, slot_of(m, d), d->gpa, d->spec.bytes, d->spec.proximity);
	if (ret != 0)
		log_error("%s: the guest cannot be told: %s", d->spec.id, strerror(-ret));
	pthread_mutex_lock(&m->lock);
	d->told = true;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

/* With the lock held, which is let go of meanwhile. False: there is nothing to do before *at_ns. */
static bool work(struct memory *m, uint64_t *at_ns)
{
	struct dimm *d = due(m);

	if (d == NULL)
		return reserve_change(m, at_ns);
	const bool removal = d->state == DIMM_STATE_REMOVING;

	pthread_mutex_unlock(&m->lock);
	carry_out(m, d, removal);
	pthread_mutex_lock(&m->lock);
	return true;
}

static void *worker(void *arg)
{
	struct memory *m = arg;
	uint64_t at_ns;

	confine_thread(CONFINE_MEMORY);
	pthread_mutex_lock(&m->lock);
	while (!m->ending) {
		if (!work(m, &at_ns))
			(void)cond_wait_until(&m->changed, &m->lock, at_ns);
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

int memory_create(struct memory **out, const struct memory_site *site)
{
	struct memory *m = calloc(1, sizeof(*m));
	int ret;

	if (m == NULL)
		return -ENOMEM;
	m->site = *site;
	pthread_mutex_init(&m->lock, NULL);
	cond_init(&m->changed);
	ret = -pthread_create(&m->worker, NULL, worker, m);
	if (ret != 0) {
		free(m);
		return ret;
	}
	m->has_worker = true;
	*out = m;
	return 0;
}

void memory_end(struct memory *m)
{
	if (m == NULL)
		return;
	pthread_mutex_lock(&m->lock);
	__atomic_store_n(&m->ending, true, __ATOMIC_RELAXED); /* reserve.c looks without the lock */
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

void memory_stop(struct memory *m)
{
	if (m == NULL)
		return;
	memory_end(m);
	if (m->has_worker)
		pthread_join(m->worker, NULL);
	if (m->has_giver)
		pthread_join(m->giver, NULL);
	m->has_worker = m->has_giver = false;
}

void memory_destroy(struct memory *m)
{
	if (m == NULL)
		return;
	memory_stop(m);
	reserves_free(m);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* ---- what is asked for; with the lock held ---- */

#define REFUSE(error, code, ...)                                                                   \
	do {                                                                                       \
		snprintf((error)->text, sizeof((error)->text), __VA_ARGS__);                       \
		return -(code);                                                                    \
	} while (0)

static struct dimm *find(struct memory *m, const char *id)
{
	for (uint32_t i = 0; i < MEMORY_DIMMS_MAX; i++) {
		if (m->dimms[i].state != DIMM_STATE_FREE && strcmp(m->dimms[i].spec.id, id) == 0)
			return &m->dimms[i];
	}
	return NULL;
}

static uint64_t plugged_by_dimms(const struct memory *m)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < MEMORY_DIMMS_MAX; i++) {
		if (m->dimms[i].state != DIMM_STATE_FREE && m->dimms[i].state != DIMM_STATE_FAILED)
			bytes += m->dimms[i].spec.bytes;
	}
	return bytes;
}

#define IN_MIB(bytes) ((unsigned long long)((bytes) >> 20))

static int check_size(const struct memory *m, const struct dimm_spec *spec,
		      struct option_error *error)
{
	const struct memory_site *s = &m->site;
	const uint64_t page = memmap_page_bytes(spec->pages);
	const uint64_t unit = page > s->window.block_bytes ? page : s->window.block_bytes;
	const uint64_t room = s->max_bytes - s->boot_bytes - plugged_by_dimms(m);

	if (s->max_bytes == s->boot_bytes)
		REFUSE(error, EINVAL,
		       "size_mib: this VM cannot grow: it was started without --memory ..,max=SIZE");
	if (spec->bytes == 0 || spec->bytes % unit != 0)
		REFUSE(error, EINVAL, "size_mib: must be a multiple of %llu", IN_MIB(unit));
	if (spec->proximity >= s->nodes)
		REFUSE(error, EINVAL,
		       "proximity: the guest has %u NUMA nodes (--memory ..,nodes=N)", s->nodes);
	if (spec->bytes > room)
		REFUSE(error, EINVAL,
		       "size_mib: no more than %llu MiB can be added: the maximum is %llu",
		       IN_MIB(room), IN_MIB(s->max_bytes));
	return 0;
}

static struct dimm *free_slot(struct memory *m)
{
	for (uint32_t i = 0; i < m->site.slots; i++) {
		if (m->dimms[i].state == DIMM_STATE_FREE)
			return &m->dimms[i];
	}
	return NULL;
}

static int place(const struct memory *m, const struct dimm_spec *spec, uint64_t *gpa,
		 struct option_error *error)
{
	struct mem_region taken[MEMORY_DIMMS_MAX];
	const char *what = "";
	uint32_t n = 0;
	int ret;

	for (uint32_t i = 0; i < MEMORY_DIMMS_MAX; i++) {
		if (m->dimms[i].state != DIMM_STATE_FREE)
			taken[n++] = (struct mem_region){ .gpa = m->dimms[i].gpa,
							  .bytes = m->dimms[i].spec.bytes };
	}
	ret = mem_window_place(&m->site.window, taken, n, spec->bytes,
			       memmap_page_bytes(spec->pages), gpa, &what);
	if (ret != 0)
		snprintf(error->text, sizeof(error->text), "size_mib: %s", what);
	return ret;
}

static int take_slot(struct memory *m, const struct dimm_spec *spec, struct dimm **out,
		     struct option_error *error)
{
	struct dimm *d;
	uint64_t gpa;
	int ret = check_size(m, spec, error);

	if (ret != 0)
		return ret;
	if (find(m, spec->id) != NULL)
		REFUSE(error, EEXIST, "id: %s is there already", spec->id);
	d = free_slot(m);
	if (d == NULL)
		REFUSE(error, ENOSPC, "id: all %u slots are in use", m->site.slots);
	ret = place(m, spec, &gpa, error);
	if (ret != 0)
		return ret;
	*d = (struct dimm){ .spec = *spec, .state = DIMM_STATE_ADDING, .gpa = gpa };
	*out = d;
	return 0;
}

/* ---- for other threads ---- */

static bool has_readers(const struct memory *m)
{
	for (uint32_t i = 0; i < MEMORY_DIMMS_MAX; i++) {
		if (m->dimms[i].state == DIMM_STATE_FREE && m->dimms[i].waiters != 0)
			return true;
	}
	return false;
}

static void stop_waiting(struct memory *m, struct dimm *d)
{
	d->waiters--;
	pthread_cond_broadcast(&m->changed);
}

static bool is_being_added(const struct dimm *d)
{
	return d->state == DIMM_STATE_ADDING || (d->state == DIMM_STATE_PRESENT && !d->told);
}

int memory_add_dimm(struct memory *m, const struct dimm_spec *spec, struct memory_change *change,
		    struct option_error *error)
{
	struct dimm *d = NULL;
	int ret;

	pthread_mutex_lock(&m->lock);
	while (has_readers(m)) /* they need not wait for anything: not for long */
		pthread_cond_wait(&m->changed, &m->lock);
	ret = take_slot(m, spec, &d, error);
	if (ret != 0) {
		pthread_mutex_unlock(&m->lock);
		return ret;
	}
	d->waiters++;
	pthread_cond_broadcast(&m->changed);
	while (is_being_added(d) && !m->ending)
		pthread_cond_wait(&m->changed, &m->lock);
	if (d->state == DIMM_STATE_FAILED) {
		ret = d->ret;
		snprintf(error->text, sizeof(error->text), "%s: %s%s%s", spec->id, d->step.what,
			 d->step.who[0] != '\0' ? ": " : "", d->step.who);
		d->state = DIMM_STATE_FREE;
	} else if (d->state == DIMM_STATE_ADDING) {
		snprintf(error->text, sizeof(error->text), "the VM is ending");
		ret = -ECANCELED;
	} else { /* or gone again already */
		*change = d->added;
	}
	stop_waiting(m, d);
	pthread_mutex_unlock(&m->lock);
	return ret;
}

/* Waits until the DIMM is gone, the guest has refused, or the time is over. */
static int await_removal(struct memory *m, const struct dimm *d, uint32_t timeout_ms)
{
	const uint64_t end = now_ns() + timeout_ms * NS_PER_MS;
	int late = 0;

	while (d->state != DIMM_STATE_FREE && !d->refused && !m->ending) {
		/* What was ejected goes, however long it takes. */
		if (d->state == DIMM_STATE_REMOVING)
			pthread_cond_wait(&m->changed, &m->lock);
		else if (late != 0)
			return -ETIMEDOUT;
		else
			late = cond_wait_until(&m->changed, &m->lock, end);
	}
	if (d->state == DIMM_STATE_FREE)
		return 0;
	return d->refused ? -EPERM : -ECANCELED;
}

/* That can be removed. */
static int choose(struct memory *m, const char *id, struct dimm **out, struct option_error *error)
{
	struct dimm *d = find(m, id);

	if (d == NULL)
		REFUSE(error, ENOENT, "%s: no such memory device", id);
	if (is_being_added(d) || d->state == DIMM_STATE_FAILED)
		REFUSE(error, EBUSY, "%s: it is being added", id);
	*out = d;
	return 0;
}

static int ask_guest(struct memory *m, struct dimm *d, struct option_error *error)
{
	int ret;

	if (d->state == DIMM_STATE_REMOVING)
		return 0; /* by the guest itself */
	d->state = DIMM_STATE_ASKED;
	d->refused = false;
	pthread_mutex_unlock(&m->lock);
	ret = m->site.guest.ask_eject(m->site.guest.ctx, slot_of(m, d));
	pthread_mutex_lock(&m->lock);
	if (ret != 0)
		snprintf(error->text, sizeof(error->text), "%s: the guest cannot be asked: %s",
			 d->spec.id, strerror(-ret));
	return ret;
}

/* Asks, and waits. */
static int eject(struct memory *m, struct dimm *d, uint32_t timeout_ms, struct option_error *error)
{
	int ret = ask_guest(m, d, error);

	if (ret != 0)
		return ret;
	ret = await_removal(m, d, timeout_ms);
	if (ret == -EPERM)
		snprintf(error->text, sizeof(error->text),
			 "%s: the guest does not eject it (_OST status %u): only memory that "
			 "was onlined movable, and is free, can be",
			 d->spec.id, d->guest_status);
	else if (ret == -ETIMEDOUT)
		snprintf(error->text, sizeof(error->text),
			 "%s: the guest has not answered in %u ms; it may still eject it",
			 d->spec.id, timeout_ms);
	else if (ret != 0)
		snprintf(error->text, sizeof(error->text), "the VM is ending");
	return ret;
}

int memory_remove_dimm(struct memory *m, const char *id, uint32_t timeout_ms,
		       struct memory_change *change, struct option_error *error)
{
	struct dimm *d = NULL;
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = choose(m, id, &d, error);
	if (ret == 0) {
		d->waiters++;
		ret = eject(m, d, timeout_ms, error);
		if (ret == 0)
			*change = d->removed;
		stop_waiting(m, d);
	}
	pthread_mutex_unlock(&m->lock);
	return ret;
}

static uint64_t resident(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

uint32_t memory_regions(struct memory *m, struct memory_region *regions)
{
	pthread_mutex_lock(&m->lock);
	const struct box_memory *epoch = &m->site.map->epoch;
	const uint32_t n = epoch->map.count;

	for (uint32_t i = 0; i < n; i++)
		regions[i] = (struct memory_region){ .gpa = epoch->map.regions[i].gpa,
						     .bytes = epoch->map.regions[i].bytes,
						     .page_bytes = epoch->page_bytes[i],
						     .resident_bytes = resident(epoch->fds[i]) };
	pthread_mutex_unlock(&m->lock);
	return n;
}

void memory_last_removal(struct memory *m, struct memory_removal *removal)
{
	pthread_mutex_lock(&m->lock);
	*removal = m->removal;
	pthread_mutex_unlock(&m->lock);
}

const struct memory_site *memory_site(const struct memory *m)
{
	return &m->site;
}

uint32_t memory_epoch(struct memory *m)
{
	pthread_mutex_lock(&m->lock);
	const uint32_t epoch = m->site.map->epoch.map.epoch;

	pthread_mutex_unlock(&m->lock);
	return epoch;
}

uint32_t memory_dimms(struct memory *m, struct dimm_status *dimms)
{
	uint32_t n = 0;

	pthread_mutex_lock(&m->lock);
	for (uint32_t i = 0; i < MEMORY_DIMMS_MAX; i++) {
		const struct dimm *d = &m->dimms[i];

		if (d->state == DIMM_STATE_FREE)
			continue;
		dimms[n++] = (struct dimm_status){
			.spec = d->spec,
			.state = d->state,
			.slot = i,
			.gpa = d->gpa,
			.since_epoch = d->since_epoch,
			.refused = d->refused,
			.guest_status = d->guest_status,
		};
	}
	pthread_mutex_unlock(&m->lock);
	return n;
}

/* ---- the guest; it says what it likes, of any slot ---- */

void memory_ejected(struct memory *m, uint32_t slot)
{
	pthread_mutex_lock(&m->lock);
	if (slot < MEMORY_DIMMS_MAX && (m->dimms[slot].state == DIMM_STATE_PRESENT ||
					m->dimms[slot].state == DIMM_STATE_ASKED)) {
		m->dimms[slot].state = DIMM_STATE_REMOVING;
		m->dimms[slot].refused = false; /* whatever it said before */
		pthread_cond_broadcast(&m->changed);
	}
	pthread_mutex_unlock(&m->lock);
}

/* With the lock held: what was asked of the guest will not come, if it was asked. */
static void give_up_asking(struct memory *m, struct dimm *d)
{
	if (d->state != DIMM_STATE_ASKED)
		return;
	d->state = DIMM_STATE_PRESENT;
	d->refused = true;
	pthread_cond_broadcast(&m->changed);
}

void memory_ost(struct memory *m, uint32_t slot, uint32_t event, uint32_t status)
{
	pthread_mutex_lock(&m->lock);
	if (slot < MEMORY_DIMMS_MAX && m->dimms[slot].state != DIMM_STATE_FREE) {
		m->dimms[slot].guest_status = status;
		if ((event == SCI_EVENT_EJECT || event == OSPM_EVENT_EJECT) &&
		    status != OST_SUCCESS && status != OST_IN_PROGRESS)
			give_up_asking(m, &m->dimms[slot]);
	}
	pthread_mutex_unlock(&m->lock);
}

void memory_forgotten(struct memory *m, uint32_t slot)
{
	pthread_mutex_lock(&m->lock);
	if (slot < MEMORY_DIMMS_MAX)
		give_up_asking(m, &m->dimms[slot]);
	pthread_mutex_unlock(&m->lock);
}
