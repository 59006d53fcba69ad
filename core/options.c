/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables themselves, the three kinds of value that only mayfly has, and what must hold between
 * options.
 */
#include "core/options.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/box/box.h"
#include "core/bus/pci.h"
#include "core/cc.h"
#include "core/log.h"
#include "core/machine/layout.h"
#include "core/options_internal.h"
#include "devmodel/abi/seal.h"

_Static_assert(RUN_DEATHS_MAX == DEVICE_DEATHS_MAX, "what the supervisor can remember");
_Static_assert(RUN_CPUS_MAX == LAYOUT_CPUS_MAX, "what the guest's tables have room for");
_Static_assert(OPTION_ID_MAX == DEVICE_ID_MAX, "ids are device ids");
_Static_assert(RUN_DISKS_MAX == PCI_SLOTS - 1, "but for the host bridge");
_Static_assert(BOX_QUEUES_MAX <= DEVICE_LANES_MAX, "a lane a queue");

/* ---- values ---- */

static const struct {
	const char *text;
	bool path;
} endpoints[] = {
#define ENDPOINT_LINE(NAME, text, path) { text, path },
	ENDPOINTS(ENDPOINT_LINE)
#undef ENDPOINT_LINE
};

int option_endpoint(const struct option *o, const char *text, void *field,
		    struct option_error *error)
{
	struct run_endpoint *endpoint = field;
	uint32_t kind = 0;
	size_t n = 0;

	for (; kind < ENDPOINT_COUNT; kind++) {
		n = strlen(endpoints[kind].text);
		if (endpoints[kind].path ? strncmp(text, endpoints[kind].text, n) == 0
					 : strcmp(text, endpoints[kind].text) == 0)
			break;
	}
	if (kind == ENDPOINT_COUNT)
		return option_fail(error, "'%.40s' is not %s", text, o->arg != NULL ? o->arg : "");
	endpoint->kind = kind;
	if (!endpoints[kind].path)
		return 0;
	const struct option path = {
		.min = 1,
		.room = kind == ENDPOINT_UNIX ? OPTION_SOCKET_MAX : OPTION_PATH_MAX,
	};

	return option_text(&path, text + n, endpoint->path, error);
}

int option_budget(const struct option *o, const char *text, void *field, struct option_error *error)
{
	struct run_budget *budget = field;
	const char *slash = strchr(text, '/');
	uint64_t deaths, seconds;

	(void)o;
	if (slash == NULL || option_decimal(text, (size_t)(slash - text), &deaths) != 0 ||
	    option_decimal(slash + 1, strlen(slash + 1), &seconds) != 0)
		return option_fail(error, "'%.40s' is not N/SECONDS, as in 10/60", text);
	if (deaths > RUN_DEATHS_MAX)
		return option_fail(error, "more than %d deaths", RUN_DEATHS_MAX);
	if (seconds < 1 || seconds > RUN_DEATH_WINDOW_MAX)
		return option_fail(error, "the time is not between 1 and %d seconds",
				   RUN_DEATH_WINDOW_MAX);
	budget->deaths = (uint32_t)deaths;
	budget->seconds = (uint32_t)seconds;
	return 0;
}

int option_user(const struct option *o, const char *text, void *field, struct option_error *error)
{
	struct run_user *user = field;
	const char *colon = strchrnul(text, ':');
	uint64_t uid, gid;

	(void)o;
	if (option_decimal(text, (size_t)(colon - text), &uid) != 0)
		return option_fail(error, "'%.40s' is not UID or UID:GID, in numbers", text);
	gid = uid;
	if (*colon == ':' && option_decimal(colon + 1, strlen(colon + 1), &gid) != 0)
		return option_fail(error, "'%.40s' is not UID or UID:GID, in numbers", text);
	/* The last stands for "leave it" in setresuid(2). */
	if (uid == 0 || uid >= UINT32_MAX || gid == 0 || gid >= UINT32_MAX)
		return option_fail(error, "neither can be 0 or above %u", UINT32_MAX - 1);
	user->uid = (uint32_t)uid;
	user->gid = (uint32_t)gid;
	return 0;
}

static const char *const layer_names[] = {
#define LAYER_NAME(NAME, name, text) #name,
	SEAL_LAYERS(LAYER_NAME)
#undef LAYER_NAME
};

static int seal_layer_add(const char *name, size_t length, uint32_t *layers,
			  struct option_error *error)
{
	for (uint32_t i = 0; i < SEAL_LAYER_COUNT; i++) {
		if (strlen(layer_names[i]) == length && memcmp(layer_names[i], name, length) == 0) {
			*layers |= 1u << i;
			return 0;
		}
	}
	return option_fail(error, "'%.*s' is not a layer of the seal (mayfly doctor lists them)",
			   length > 40 ? 40 : (int)length, name);
}

int option_seal(const struct option *o, const char *text, void *field, struct option_error *error)
{
	struct run_seal *seal = field;
	int ret = 0;

	(void)o;
	if (strcmp(text, "kernel") == 0) {
		seal->kernel = true;
		return 0;
	}
	if (strcmp(text, "all") == 0) {
		seal->layers = (1u << SEAL_LAYER_COUNT) - 1;
		return 0;
	}
	for (const char *end; ret == 0; text = end + 1) {
		end = strchrnul(text, ',');
		ret = seal_layer_add(text, (size_t)(end - text), &seal->layers, error);
		if (*end == '\0')
			break;
	}
	return ret;
}

void option_seal_text(const struct run_seal *seal, char text[OPTION_SEAL_TEXT_MAX])
{
	size_t n = 0;

	text[0] = '\0';
	if (seal->kernel)
		snprintf(text, OPTION_SEAL_TEXT_MAX, "kernel");
	for (uint32_t i = 0; i < SEAL_LAYER_COUNT && !seal->kernel; i++) {
		if (seal->layers & 1u << i)
			n += (size_t)snprintf(text + n, OPTION_SEAL_TEXT_MAX - n, "%s%s",
					      n != 0 ? "," : "", layer_names[i]);
		CHECK(n < OPTION_SEAL_TEXT_MAX);
	}
}

/* ---- disks ---- */

#define OPTION_STRUCT struct run_disk
static const struct option disk_table[] = { DISK_OPTIONS(OPTION_LINE) };
#undef OPTION_STRUCT

const struct option_set disk_set = { OPTION_SET(disk_table, struct run_disk) };

#define OPTION_STRUCT struct run_rejuvenate
static const struct option rejuvenate_table[] = { REJUVENATE_OPTIONS(OPTION_LINE) };
#undef OPTION_STRUCT

static const struct option_set rejuvenate_set = {
	OPTION_SET(rejuvenate_table, struct run_rejuvenate),
	.positional = 1,
};

/* Ids of devices that have one of their own, whether they are there or not; OWN_DEVICES first. */
static const char *const own_ids[] = {
#define OWN_ID(NAME, id) id,
	OWN_DEVICES(OWN_ID)
#undef OWN_ID
		"rtc",
	"vsock"
};

bool option_id_reserved(const char *id)
{
	for (size_t i = 0; i < ARRAY_SIZE(own_ids); i++) {
		if (strcmp(id, own_ids[i]) == 0)
			return true;
	}
	return false;
}

struct run_disk *run_disk(struct run_options *run, const char *id)
{
	for (uint32_t i = 0; i < run->disk_count; i++) {
		if (strcmp(run->disks[i].id, id) == 0)
			return &run->disks[i];
	}
	return NULL;
}

struct run_own *run_own(struct run_options *run, const char *id)
{
	struct run_disk *disk = run_disk(run, id);

	if (disk != NULL)
		return &disk->own;
	for (uint32_t i = 0; i < OWN_DEVICE_COUNT; i++) {
		if (strcmp(own_ids[i], id) == 0)
			return &run->own[i];
	}
	return NULL;
}

static uint32_t limit_of(uint32_t own, uint32_t all)
{
	return own != 0 ? own - 1 : all;
}

struct run_own run_settings_of(const struct run_options *run, const char *id)
{
	const struct run_own none = { 0 };
	const struct run_own *found = run_own((struct run_options *)run, id);
	const struct run_own *own = found != NULL ? found : &none;
	const struct run_limits *all = &run->limits;

	return (struct run_own){
		.every_ms = own->every_ms != 0 ? own->every_ms : run->rejuvenate.every_ms,
		.has_jitter = true,
		.jitter_permille = own->has_jitter ? own->jitter_permille
						   : run->rejuvenate.jitter_permille,
		.limits = {
			.hang_ms = limit_of(own->limits.hang_ms, all->hang_ms),
			.storm_ms = limit_of(own->limits.storm_ms, all->storm_ms),
			.audit_ms = limit_of(own->limits.audit_ms, all->audit_ms),
			.poison_limit = limit_of(own->limits.poison_limit, all->poison_limit),
		},
	};
}

static int disk_ids_check(const struct run_options *run, struct option_error *error)
{
	for (uint32_t i = 0; i < run->disk_count; i++) {
		const char *id = run->disks[i].id;

		if (option_id_reserved(id))
			return option_fail(error, "--disk: id: '%s' is another device's", id);
		for (uint32_t k = 0; k < i; k++) {
			if (strcmp(id, run->disks[k].id) == 0)
				return option_fail(error, "--disk: id: '%s' given twice", id);
		}
	}
	return 0;
}

/* A slot for each, and one for the host bridge. */
static int slots_check(const struct run_options *run, struct option_error *error)
{
	const uint32_t others = (run->rng ? 1u : 0) + (run_has_balloon(run) ? 1u : 0) +
				run->hotplug_count + (run->console.kind != ENDPOINT_OFF ? 1u : 0);

	if (run->disk_count + others < PCI_SLOTS)
		return 0;
	return option_fail(error,
			   "--disk: no PCI slot is left for '%s': %d for disks, entropy "
			   "device, balloon, memory hotplug and console",
			   run->disks[run->disk_count - 1].id, PCI_SLOTS - 1);
}

static int lanes_check(const struct run_options *run, struct option_error *error)
{
	for (uint32_t i = 0; i < run->disk_count; i++) {
		const struct run_disk *disk = &run->disks[i];

		if (disk->lanes > disk->queues)
			return option_fail(error, "--disk: %s: lanes=%u is more than queues=%u",
					   disk->id, disk->lanes, disk->queues);
	}
	return 0;
}

/* A seal that is asked for is no worse for a fault, but who asks for it wants none. */
static int faults_check(const struct run_options *run, struct option_error *error)
{
	if (run->allow_faults && (run->require_seal.kernel || run->require_seal.layers != 0))
		return option_fail(error, "--allow-faults: not together with --require-seal");
	if (run->faulty_programs && !run->allow_faults)
		return option_fail(error, "--faulty-programs: needs --allow-faults");
	return 0;
}

/* ---- run ---- */

static const char *const log_level_names[] = {
#define LEVEL_NAME(NAME, name) name,
	LOG_LEVELS(LEVEL_NAME)
#undef LEVEL_NAME
		NULL,
};

#define OPTION_STRUCT struct run_options
#define RUN_LINE(NAME, whose_, name_, json_, arg_, fallback_, how_, text_)                         \
	{ .name = (name_), OPTION_REST(json_, arg_, fallback_, text_), how_ },
static const struct option run_table[] = { RUN_OPTIONS(RUN_LINE) };

/* The same numbers: what is a VM's alone has its default, and no name. */
#define NAME_OF_VM(name) NULL
#define NAME_OF_BOTH(name) (name)
#define VHOST_LINE(NAME, whose_, name_, json_, arg_, fallback_, how_, text_)                       \
	{ .name = NAME_OF_##whose_(name_), OPTION_REST(json_, arg_, fallback_, text_), how_ },
static const struct option vhost_table[] = {
	RUN_OPTIONS(VHOST_LINE){
		.name = "socket",
		.json = "mayfly.devices.ID.socket",
		.arg = "SOCKET",
		.text = "where the device is served; of the one device that there is",
		.parse = option_text,
		.offset = offsetof(struct vhost_options, socket),
		.room = OPTION_SOCKET_MAX,
		.min = 1,
	},
	{
		.name = "incoming",
		.text = "guests migrate to here: until they have come, their images may be in use",
		.parse = option_flag,
		.offset = offsetof(struct vhost_options, incoming),
		.room = sizeof(bool),
	},
};
#undef OPTION_STRUCT
_Static_assert(offsetof(struct vhost_options, run) == 0,
	       "offsets in it are those in struct run_options");

/* What a configuration file may still supply is not missed here. */
static int run_boot_check(const struct run_options *run, struct option_error *error)
{
	if (run->kernel[0] != '\0' || run->config[0] != '\0')
		return 0;
	if (run->initrd[0] != '\0')
		return option_fail(error, "--initrd: needs --kernel");
	if (OPTION_GIVEN(run, OPTION_RUN_CMDLINE))
		return option_fail(error, "--cmdline: needs --kernel");
	return 0;
}

void run_streams(struct run_options *run)
{
	const uint64_t ours =
		1ull << OPTION_RUN_KERNEL | 1ull << OPTION_RUN_CONSOLE | 1ull << OPTION_RUN_SERIAL;

	if (!(run->given & ours)) {
		run->console.kind = ENDPOINT_OFF;
		if (run->serial.kind == ENDPOINT_OFF) /* not a file already */
			run->serial.kind = ENDPOINT_TTY;
	} else if (!OPTION_GIVEN(run, OPTION_RUN_CONSOLE)) {
		run->console.kind = run->serial.kind == ENDPOINT_TTY ? ENDPOINT_OFF : ENDPOINT_TTY;
	}
}

int devices_check(const struct run_options *run, struct option_error *error)
{
	int ret = faults_check(run, error);

	if (ret == 0)
		ret = disk_ids_check(run, error);
	return ret == 0 ? lanes_check(run, error) : ret;
}

/* Words of one that names a key, with the option that it is of. */
static int blame(struct option_error *error, const char *option)
{
	const struct option_error inner = *error;

	return option_fail(error, "%s: %.200s", option, inner.text);
}

int run_consistent(const struct run_options *run, struct option_error *error)
{
	int ret;

	if (memory_size_check(&run->memory, error) != 0)
		return blame(error, "--memory");
	if (run_has_balloon(run) && run_balloon_check(run, run->balloon.bytes, error) != 0)
		return blame(error, "balloon");
	ret = hotplug_check(run, error);
	if (ret == 0)
		ret = devices_check(run, error);
	return ret == 0 ? slots_check(run, error) : ret;
}

/* Where a device is served is said of a back-end's. */
static int no_socket_check(const struct run_options *run, struct option_error *error)
{
	const char *id = NULL;

	for (uint32_t i = 0; i < run->disk_count; i++) {
		if (run->disks[i].own.socket[0] != '\0')
			id = run->disks[i].id;
	}
	for (uint32_t i = 0; i < OWN_DEVICE_COUNT; i++) {
		if (run->own[i].socket[0] != '\0')
			id = own_ids[i];
	}
	if (id == NULL)
		return 0;
	return option_fail(error,
			   "%s: socket: is for mayfly vhost-user, which serves devices of "
			   "other VMMs' guests",
			   id);
}

static int run_check(void *out, struct option_error *error)
{
	struct run_options *run = out;
	int ret;

	run_streams(run);
	if (run->console.kind == ENDPOINT_TTY && run->serial.kind == ENDPOINT_TTY)
		return option_fail(error, "--serial: the console has the tty already");
	if (run->id[0] == '\0')
		snprintf(run->id, sizeof(run->id), "vm%d", getpid());
	(void)memory_check(&run->memory, error); /* the node; what is wrong is said below */
	ret = run_boot_check(run, error);
	if (ret == 0)
		ret = no_socket_check(run, error);
	return ret != 0 ? ret : run_consistent(run, error);
}

/* As Firecracker does it, which has the root device first, too. */
int run_cmdline(const struct run_options *options, char text[OPTION_CMDLINE_MAX])
{
	const struct run_disk *disk = &options->disks[0];
	const bool root = options->disk_count != 0 && disk->root;
	const bool part = root && disk->partuuid[0] != '\0';
	const int n =
		snprintf(text, OPTION_CMDLINE_MAX, "%s%s%s%s%s", options->cmdline,
			 root && options->cmdline[0] != '\0' ? " " : "",
			 part   ? "root=PARTUUID="
			 : root ? "root=/dev/vda"
				: "",
			 part ? disk->partuuid : "", root ? (disk->readonly ? " ro" : " rw") : "");

	return n < OPTION_CMDLINE_MAX ? 0 : -E2BIG;
}

const struct option_set run_set = {
	OPTION_SET(run_table, struct run_options),
	.check = run_check,
};

const struct option_set vhost_set = {
	.options = vhost_table,
	.count = ARRAY_SIZE(vhost_table),
	.bytes = sizeof(struct vhost_options),
	.given = offsetof(struct vhost_options, run.given),
	.operands = "[blk|rng]",
	.operands_max = 1,
	.operands_offset = offsetof(struct vhost_options, operands),
	.operand_count = offsetof(struct vhost_options, operand_count),
	.check = vhost_check,
};

/* ---- doctor ---- */

#define OPTION_STRUCT struct doctor_options
static const struct option doctor_table[] = { DOCTOR_OPTIONS(OPTION_LINE) };
#undef OPTION_STRUCT

const struct option_set doctor_set = { OPTION_SET(doctor_table, struct doctor_options) };

/* ---- ctl ---- */

#define OPTION_STRUCT struct ctl_options
static const struct option ctl_table[] = { CTL_OPTIONS(OPTION_LINE) };
#undef OPTION_STRUCT

const struct option_set ctl_set = {
	OPTION_SET(ctl_table, struct ctl_options),
	.operands =
		"SOCKET devices|device ID|replace ID|replace all|revive ID|autopsies ID [N]|"
		"fault ID KIND|memory|memory add ID MIB|memory remove ID|"
		"memory resize ID MIB|memory size ID|memory balloon [MIB|statistics]|events|pause|resume|metrics",
	.operands_max = CTL_OPERANDS_MAX,
	.operands_offset = offsetof(struct ctl_options, operands),
	.operand_count = offsetof(struct ctl_options, operand_count),
};
