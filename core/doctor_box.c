/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seal, tried.  A layer is called ok only when a real sandbox was made, sealed with it and
 * verified from outside just now: every step of the seal is fatal, so one that got to the end wears
 * all the layers that were asked for.  The sandbox is an entropy device with a little guest memory
 * and no driver; it is thrown away.  What the supervisor has to say if that fails is the reason
 * given: it is read back from the log.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/box/box.h"
#include "core/cc.h"
#include "core/doctor.h"
#include "core/log.h"
#include "core/programs.h"
#include "devmodel/abi/seal.h"

#define TRIAL_MEMORY (2u << 20)
#define TRIAL_WAIT_MS 50
#define TRIAL_WAITS 200 /* so many waits: 10 s */
#define TRIAL_TRIES 10  /* so many of them after a complaint */

struct trial {
	struct seal_host host;
	struct spawner spawner;
	struct supervisor *sup;
	int log; /* memfd */
	int memory;
	int source, kick, call;
	uint64_t sealed_us, verify_us;
	char why[256]; /* empty: sealed and verified */
};

static void trial_fail(struct trial *t, const char *what, int error)
{
	snprintf(t->why, sizeof(t->why), "cannot %s: %s", what, strerror(error));
}

/* The first complaint in the log, without its prefix. false: there is none. */
static bool trial_complaint(struct trial *t)
{
	static const char prefix[] = "mayfly: doctor: ";
	char text[sizeof(t->why)];
	const ssize_t n = pread(t->log, text, sizeof(text) - 1, 0);
	const char *from = text;

	if (n <= 0)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(text, prefix, sizeof(prefix) - 1) == 0)
		from += sizeof(prefix) - 1;
	snprintf(t->why, sizeof(t->why), "%s", from);
	return true;
}

static int trial_open(struct trial *t)
{
	t->log = memfd_create("log", MFD_CLOEXEC);
	t->memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	t->source = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	t->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	t->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (t->log < 0 || t->memory < 0 || t->source < 0 || t->kick < 0 || t->call < 0 ||
	    ftruncate(t->memory, TRIAL_MEMORY) != 0) {
		trial_fail(t, "make what a sandbox is given", errno);
		return -1;
	}
	return 0;
}

static int trial_supervise(struct trial *t)
{
	struct box_memory *memory = calloc(1, sizeof(*memory));
	int ret = -ENOMEM;

	if (memory != NULL) {
		memory->map.epoch = 1;
		memory->map.count = 1;
		memory->map.regions[0] = (struct mem_region){ 0, TRIAL_MEMORY, 0 };
		memory->fds[0] = t->memory;
		memory->page_bytes[0] = 4096;
		ret = supervisor_create(&t->sup, &t->spawner, &t->host, memory);
		free(memory);
	}
	if (ret != 0)
		trial_fail(t, "start the supervisor", -ret);
	return ret;
}

/* Until the standby is ready, or a complaint stands and a few more tries changed nothing. */
static void trial_wait(struct trial *t, struct device *dev)
{
	cleanup_free struct device_status *status = calloc(1, sizeof(*status));
	int tries = TRIAL_TRIES;

	if (status == NULL) {
		trial_fail(t, "try", ENOMEM);
		return;
	}
	for (int i = 0; i < TRIAL_WAITS && tries > 0; i++) {
		const int ret = device_wait_standby(dev, TRIAL_WAIT_MS);

		device_status(dev, status);
		if (ret == 0 && status->standby_ready) {
			t->sealed_us = status->standby_sealed_ns / NS_PER_US;
			t->verify_us = status->standby_verify_ns / NS_PER_US;
			t->why[0] = '\0';
			return;
		}
		tries -= trial_complaint(t) ? 1 : 0;
	}
	if (t->why[0] == '\0')
		snprintf(t->why, sizeof(t->why), "a sandbox was asked for, but not ready in 10 s");
}

static void trial_device(struct trial *t)
{
	const struct device_spec spec = {
		.id = "doctor",
		.kind = DEV_KIND_RNG,
		.queues = 1,
		.lanes = 1,
		.kick = { t->kick },
		.call = { t->call },
		.backends = { t->source },
		.backend_count = 1,
		.guest_memory = true,
	};
	struct device *dev = NULL;
	const int ret = device_create(t->sup, &spec, &dev);

	if (ret != 0) {
		trial_fail(t, "compile a policy", -ret);
		return;
	}
	trial_wait(t, dev);
	device_destroy(dev);
}

static void trial_run(struct trial *t, const char *programs)
{
	const char *what = "";
	int ret;

	if (trial_open(t) != 0)
		return;
	ret = spawner_start(&t->spawner, programs, NULL, &what);
	if (ret != 0) {
		trial_fail(t, what, -ret);
		return;
	}
	log_open(t->log, LOG_LEVEL_ERROR);
	if (trial_supervise(t) == 0)
		trial_device(t);
	supervisor_destroy(t->sup);
	spawner_stop(&t->spawner);
	log_open(STDERR_FILENO, LOG_LEVEL_WARN);
}

static void trial_close(struct trial *t)
{
	cc_close(&t->log);
	cc_close(&t->memory);
	cc_close(&t->source);
	cc_close(&t->kick);
	cc_close(&t->call);
}

/* ---- layers ---- */

/* What to say of the layers that a host can lack; of the others there is nothing to lack. */
static const char *layer_lack(const struct trial *t, enum seal_layer layer)
{
	switch (layer) {
	case SEAL_LAYER_LANDLOCK:
		return t->host.seal & SEAL_WANT_LANDLOCK
			       ? NULL
			       : "no Landlock in this kernel, or not switched on: Linux 5.13 with "
				 "CONFIG_SECURITY_LANDLOCK, and landlock in lsm= at boot";
	case SEAL_LAYER_MSEAL:
		return t->host.seal & SEAL_WANT_MSEAL ? NULL
						      : "no mseal in this kernel: Linux 6.10";
	case SEAL_LAYER_MDWE:
		return t->host.seal & SEAL_WANT_MDWE ? NULL : "no MDWE in this kernel: Linux 6.3";
	case SEAL_LAYER_LISTENER:
		return t->host.seal & SEAL_WANT_LISTENER
			       ? NULL
			       : "no seccomp listener or pidfd_getfd in this kernel (Linux 5.6): a "
				 "forbidden call kills, and is not reported";
	default:
		return NULL;
	}
}

static const char *const layer_names[] = {
#define LAYER_NAME(NAME, name, text) #name,
	SEAL_LAYERS(LAYER_NAME)
#undef LAYER_NAME
};

static const char *const layer_texts[] = {
#define LAYER_TEXT(NAME, name, text) text,
	SEAL_LAYERS(LAYER_TEXT)
#undef LAYER_TEXT
};

static void add_layer(struct doctor *d, const struct trial *t, enum seal_layer layer)
{
	const char *lack = layer_lack(t, layer);

	if (lack != NULL)
		doctor_add(d, "seal", layer_names[layer], DOCTOR_MISSING, DOCTOR_NO_VALUE, "%s",
			   lack);
	else if (layer == SEAL_LAYER_IDS && !(t->host.seal & SEAL_WANT_IDS))
		doctor_add(
			d, "seal", layer_names[layer], DOCTOR_NOTE, DOCTOR_NO_VALUE,
			"same as the VMM's; run as root, each VM's sandboxes have ids of their own");
	else if (t->why[0] != '\0')
		doctor_add(d, "seal", layer_names[layer], DOCTOR_MISSING, DOCTOR_NO_VALUE,
			   "not shown: no sandbox could be sealed, see sandbox trial");
	else
		doctor_add(d, "seal", layer_names[layer], DOCTOR_OK, DOCTOR_NO_VALUE,
			   "takes away %s", layer_texts[layer]);
}

static void add_trial(struct doctor *d, const struct trial *t)
{
	if (t->why[0] != '\0') {
		doctor_add(d, "sandbox", "trial", DOCTOR_BLOCKING, DOCTOR_NO_VALUE, "%s", t->why);
		return;
	}
	doctor_add(d, "sandbox", "trial", DOCTOR_OK, DOCTOR_NO_VALUE,
		   "one was made, sealed, verified from outside and thrown away");
	doctor_add(d, "sandbox", "sealed-us", DOCTOR_NOTE, (int64_t)t->sealed_us,
		   "%llu us from asking for it to the end of its seal",
		   (unsigned long long)t->sealed_us);
	doctor_add(d, "sandbox", "verify-us", DOCTOR_NOTE, (int64_t)t->verify_us,
		   "%llu us for the check from outside", (unsigned long long)t->verify_us);
}

void doctor_box(struct doctor *d)
{
	struct trial t = { .log = -1, .memory = -1, .source = -1, .kick = -1, .call = -1 };
	char programs[4096], program[4200];
	const int ret = programs_find(programs, sizeof(programs), false);

	seal_host_probe(&t.host);
	snprintf(program, sizeof(program), "%s/mayfly-rng",
		 ret == 0 || ret == -ENOENT ? programs : "");
	if (access(program, X_OK) == 0)
		trial_run(&t, programs);
	else
		snprintf(t.why, sizeof(t.why), "no device programs: %.160s: %s", program,
			 strerror(errno));
	trial_close(&t);
	for (int layer = 0; layer < SEAL_LAYER_COUNT; layer++)
		add_layer(d, &t, layer);
	add_trial(d, &t);
}
