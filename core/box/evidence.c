/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gathers what an autopsy says.  The successor serves by now, so that none of it is part of a pause;
 * what could block is the coroner's, and the dead wait for it no longer than KEEP_MS.
 *
 * A box that was stopped or held still has registers and a stack, and is kept until both are read.  One
 * that died by itself has neither; what it died of is known at the latest when it is reaped, and its
 * document is written then.
 */
#include "core/box/autopsy.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/ration.h"
#include "devmodel/abi/seal.h"

#define KEEP_MS 100 /* a box whose stack the coroner reads */
#define STOP_MS 50  /* a box that was told to stop, on its way */
#define STOP_LOOK_MS 1

/* Of a device: one that dies all day long says the same each time. */
static const struct ration autopsy_ration = { .burst = 10, .period_ns = 6 * NS_PER_S };

/* ---- gathering ---- */

/* Which of a generation's boxes it was. */
static struct box *evidence_suspect(struct generation *gen)
{
	for (uint32_t i = 0; i < gen->lanes; i++) {
		if (!replace_reason_planned(gen->boxes[i].reason))
			return &gen->boxes[i];
	}
	return &gen->boxes[0];
}

static uint32_t layers_in_force(const struct seal_host *host)
{
	uint32_t layers = 0;

	for (uint32_t i = 0; i < SEAL_LAYER_COUNT; i++) {
		if (seal_host_lacks(host, 1u << i, false) == 0)
			layers |= 1u << i;
	}
	return layers;
}

static uint64_t wall_of(uint64_t at_ns)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec - (now_ns() - at_ns);
}

static void gather_launch(struct autopsy *a, const struct launch_record *l)
{
	a->stack_addr = l->stack_addr;
	a->state_addr = l->state_addr;
	a->log_addr = l->log_addr;
	a->log_bytes = launch_log_span(l);
	a->map.epoch = l->map.epoch;
	a->map.count = l->map.count;
	memcpy(a->map.regions, l->map.regions, l->map.count * sizeof(l->map.regions[0]));
}

static struct autopsy *gather(const struct box *box)
{
	const struct generation *gen = box->gen;
	const struct device *dev = gen->dev;
	const struct passage *p = &dev->passage;
	struct autopsy *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	memcpy(a->device, dev->spec.id, sizeof(a->device));
	a->kind = dev->spec.kind;
	a->generation = gen->number;
	a->epoch = gen->epoch;
	a->lane = box->lane;
	a->lanes = gen->lanes;
	a->at_ns = p->fenced_ns;
	a->wall_ns = wall_of(p->fenced_ns);
	/* 0: it was suspect before its first pass. */
	a->age_ns = gen->activated_ns != 0 ? p->fenced_ns - gen->activated_ns : 0;
	a->reason = p->reason;
	a->fence = p->fence;
	a->seal = layers_in_force(&dev->sup->host);
	a->queues = dev->spec.guest_memory ? dev->spec.queues : 0;
	memcpy(a->rings, p->rings, sizeof(a->rings));
	a->messages = box->messages;
	a->call = box->call;
	gather_launch(a, box->launch);
	return a;
}

static bool has_stopped(const struct box *box, struct user_regs_struct *registers)
{
	struct iovec to = { registers, sizeof(*registers) };

	return ptrace(PTRACE_GETREGSET, box->pid, (void *)NT_PRSTATUS, &to) == 0 && /* NOLINT */
	       to.iov_len == sizeof(*registers);
}

/* ---- order ---- */

static void evidence_submit(struct generation *gen, const struct box *box, int pidfd)
{
	struct device *dev = gen->dev;

	gen->ticket = coroner_submit(dev->sup->coroner, gen->autopsy, box->pid, pidfd);
	if (gen->ticket == 0)
		dev->autopsies_skipped++;
	free(gen->autopsy);
	gen->autopsy = NULL;
}

/* Registers now, or it has not come to a stop yet, or never will. */
static void evidence_look(struct device *dev)
{
	struct generation *gen = dev->previous;
	const struct box *box = evidence_suspect(gen);
	struct loop *loop = dev->sup->loop;

	if (has_stopped(box, &gen->autopsy->registers)) {
		gen->autopsy->has_registers = true;
		evidence_submit(gen, box, box->pidfd);
		if (gen->ticket != 0) {
			loop_arm(loop, &dev->mourning, now_ns() + KEEP_MS * NS_PER_MS);
			return;
		}
	} else if (now_ns() < gen->stop_by_ns) {
		loop_arm(loop, &dev->mourning, now_ns() + STOP_LOOK_MS * NS_PER_MS);
		return;
	}
	generation_retire(dev, &dev->previous);
}

static void evidence_mourning(struct loop_timer *timer)
{
	struct device *dev = container_of(timer, struct device, mourning);

	/* It may be gone, or another's turn may have come. */
	if (dev->previous == NULL || !dev->previous->examined)
		return;
	if (dev->previous->autopsy != NULL)
		evidence_look(dev);
	else
		generation_retire(dev, &dev->previous);
}

static bool evidence_wanted(struct device *dev)
{
	const struct generation *gen = dev->previous;
	const uint64_t now = now_ns();
	uint64_t due = dev->autopsy_due_ns;

	if (gen == NULL || gen->examined || dev->passage.planned ||
	    dev->passage.from != gen->number || dev->sup->coroner == NULL)
		return false;
	if (ration_take(&autopsy_ration, &due, now) > now) {
		dev->autopsies_skipped++;
		return false;
	}
	dev->autopsy_due_ns = due;
	return true;
}

void evidence_retire(struct device *dev)
{
	struct generation *gen = dev->previous;
	struct box *box;

	if (!evidence_wanted(dev)) {
		generation_retire(dev, &dev->previous);
		return;
	}
	gen->examined = true;
	box = evidence_suspect(gen);
	gen->autopsy = gather(box);
	if (gen->autopsy == NULL || box->state != BOX_FENCED || !box->seized) {
		dev->autopsies_skipped += gen->autopsy == NULL;
		generation_retire(dev, &dev->previous); /* the rest in evidence_bury() */
		return;
	}
	/* A death now would be told again and again; who retires it looks for that anew. */
	for (uint32_t i = 0; i < gen->lanes; i++)
		loop_remove(dev->sup->loop, &gen->boxes[i].on_pidfd);
	dev->mourning.fire = evidence_mourning;
	gen->stop_by_ns = now_ns() + STOP_MS * NS_PER_MS;
	evidence_look(dev);
}

void evidence_bury(struct generation *gen)
{
	const struct box *box = evidence_suspect(gen);

	if (gen->autopsy != NULL) {
		gen->autopsy->cause_known = box->cause_known;
		gen->autopsy->killed_by = box->killed_by;
		gen->autopsy->exit_code = box->exit_code;
		evidence_submit(gen, box, -1);
	}
	for (uint32_t i = 0; i < gen->lanes; i++)
		free(gen->boxes[i].launch);
}

/* ---- what the coroner tells ---- */

static void evidence_harvest(struct supervisor *sup)
{
	char id[DEVICE_ID_MAX + 1];
	enum coroner_result result;
	uint64_t generation;

	while ((result = coroner_next(sup->coroner, id, &generation)) != CORONER_PENDING) {
		struct device *dev = sup->devices;

		while (dev != NULL && strcmp(dev->spec.id, id) != 0)
			dev = dev->next;
		if (dev == NULL) /* destroyed meanwhile */
			continue;
		dev->autopsies += result == CORONER_WRITTEN;
		dev->autopsies_failed += result == CORONER_FAILED;
		if (result == CORONER_WRITTEN)
			device_tell(dev, AUTOPSY, .generation = generation);
	}
}

static void evidence_told(void *arg)
{
	struct supervisor *sup = arg;

	for (struct device *dev = sup->devices; dev != NULL; dev = dev->next) {
		const struct generation *gen = dev->previous;

		if (gen != NULL && gen->ticket != 0 && coroner_has_read(sup->coroner, gen->ticket))
			generation_retire(dev, &dev->previous);
	}
	evidence_harvest(sup);
}

/* On the coroner's thread. */
static void evidence_tell(void *ctx)
{
	struct supervisor *sup = ctx;

	loop_post(sup->loop, evidence_told, sup);
}

/* ---- from outside ---- */

int supervisor_keep_autopsies(struct supervisor *sup, const char *dir)
{
	int ret;

	sup->autopsy_dir = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	ret = sup->autopsy_dir < 0
		      ? -errno
		      : coroner_start(&sup->coroner, sup->autopsy_dir, evidence_tell, sup);
	if (ret != 0)
		cc_close(&sup->autopsy_dir);
	return ret;
}

uint32_t device_autopsies(const struct device *dev, struct autopsy_entry *entries)
{
	return coroner_list(dev->sup->autopsy_dir, dev->spec.id, entries);
}

int device_autopsy(const struct device *dev, uint64_t generation, char out[AUTOPSY_BYTES_MAX])
{
	const int ret = coroner_read(dev->sup->autopsy_dir, dev->spec.id, generation, out);

	return dev->sup->coroner == NULL ? -ENOENT : ret;
}
