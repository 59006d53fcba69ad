/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of mayfly's verbs: one line an option, from which come the enum, the parser, the help,
 * the manual page and the keys of the configuration file.  Every struct begins with `given`, a bit
 * for each option that was really given, so that what a file says can be put below it.
 *
 * A parsed struct is complete (defaults filled in), range-checked and consistent in itself; whether
 * the files exist and the host can do it is found out by whoever uses it.
 */
#ifndef MAYFLY_CORE_OPTIONS_H
#define MAYFLY_CORE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/optparse.h"
#include "devmodel/abi/config.h"
#include "devmodel/abi/launch.h"

#define OPTION_PATH_MAX 4096    /* with the NUL */
#define OPTION_SOCKET_MAX 108   /* of sockaddr_un */
#define OPTION_CMDLINE_MAX 2048 /* COMMAND_LINE_SIZE of Linux on x86 */
#define OPTION_ID_MAX 64
#define RUN_DISKS_MAX                                                                              \
	31 /* slots on the PCI bus; entropy device, balloon and console take one each */
#define RUN_CPUS_MAX 32
#define RUN_MEMORY_MIN (16ull << 20)
#define RUN_MEMORY_MAX (16ull << 40)
#define RUN_DEATHS_MAX 64
#define RUN_DEATH_WINDOW_MAX 86400
#define RUN_LIMIT_MS_MAX 3600000
#define RUN_POISON_MAX 64
#define RUN_REJUVENATE_MIN 10ull /* ms */
#define RUN_REJUVENATE_MAX (7ull * 24 * 3600 * 1000)
#define RUN_BALLOON_MAX (RUN_MEMORY_MAX - (1ull << 20)) /* pages of it fit into 32 bits */
#define RUN_STATS_MAX 65535                             /* s, as in Firecracker */
#define RUN_NODE_MAX 1023
#define RUN_SLOTS_MAX 64
#define RUN_NODES_MAX 8
#define RUN_NODE_ANY UINT32_MAX
#define RUN_HOTPLUG_MIN (2ull << 20)  /* a block; the guest's huge pages */
#define RUN_HOTPLUG_MAX (64ull << 40) /* a region */

/* How a line says what its value is; OPTION_STRUCT is the struct that the list describes. */
#define OPTION_AT(field_)                                                                          \
	.offset = offsetof(OPTION_STRUCT, field_), .room = sizeof(((OPTION_STRUCT *)0)->field_)
#define OPTION_FLAG(field_) .parse = option_flag, OPTION_AT(field_)
#define OPTION_TEXT(field_, min_) .parse = option_text, OPTION_AT(field_), .min = (min_)
#define OPTION_ID(field_) .parse = option_id, OPTION_AT(field_)
#define OPTION_RANGE(kind_, field_, min_, max_)                                                    \
	.parse = option_##kind_, OPTION_AT(field_), .min = (min_), .max = (max_)
#define OPTION_CHOICE(field_, names_) .parse = option_choice, OPTION_AT(field_), .names = (names_)
#define OPTION_GROUP(field_, set_) .parse = option_group, OPTION_AT(field_), .subset = &(set_)
#define OPTION_GROUPS(field_, set_, count_, max_)                                                  \
	.parse = option_group, .offset = offsetof(OPTION_STRUCT, field_),                          \
	.room = sizeof(((OPTION_STRUCT *)0)->field_[0]), .subset = &(set_), .repeat = (max_),      \
	.count_offset = offsetof(OPTION_STRUCT, count_)
#define OPTION_OTHER(parse_, field_) .parse = parse_, OPTION_AT(field_)
#define OPTION_NEEDED(...) __VA_ARGS__, .required = 1

/* ---- --memory ---- */

/* NAME, name; what each is, core/machine/memmap.c knows. */
#define MEMORY_PAGES(X)                                                                            \
	X(4K, "4k")                                                                                \
	X(THP, "thp")                                                                              \
	X(2M, "2m")                                                                                \
	X(1G, "1g")

enum memory_pages {
#define MEMORY_PAGES_ENUM(NAME, name) MEMORY_PAGES_##NAME,
	MEMORY_PAGES(MEMORY_PAGES_ENUM)
#undef MEMORY_PAGES_ENUM
		MEMORY_PAGES_COUNT
};

extern const char *const memory_pages_names[]; /* NULL-terminated */

/* NAME, name, configuration key, value, default, how it is read, help. */
#define MEMORY_OPTIONS(X)                                                                          \
	X(SIZE, "size", "machine-config.mem_size_mib", "SIZE", "512M",                             \
	  OPTION_RANGE(size, bytes, RUN_MEMORY_MIN, RUN_MEMORY_MAX), "memory at boot, whole MiB")  \
	X(PAGES, "pages", "mayfly.memory.pages", "4k|thp|2m|1g", "4k",                             \
	  OPTION_CHOICE(pages, memory_pages_names),                                                \
	  "page size on the host: 2m is what keeps replacements cheap; 2m and 1g are hugetlb")     \
	X(NODE, "node", "mayfly.memory.node", "N", NULL,                                           \
	  OPTION_RANGE(number, node, 0, RUN_NODE_MAX), "the host's NUMA node that it comes from")  \
	X(PREALLOC, "prealloc", "mayfly.memory.prealloc", NULL, NULL, OPTION_FLAG(prealloc),       \
	  "all of it is taken from the host at the start")                                         \
	X(MAX, "max", "mayfly.memory.max_mib", "SIZE", NULL,                                       \
	  OPTION_RANGE(size, max_bytes, RUN_MEMORY_MIN, RUN_MEMORY_MAX),                           \
	  "how much it may become while the guest runs; without it none can be added")             \
	X(SLOTS, "slots", "mayfly.memory.slots", "N", "64",                                        \
	  OPTION_RANGE(number, slots, 1, RUN_SLOTS_MAX), "how many memory devices there can be")   \
	X(NODES, "nodes", "mayfly.memory.nodes", "N", "1",                                         \
	  OPTION_RANGE(number, nodes, 1, RUN_NODES_MAX), "how many NUMA nodes the guest has")

struct run_memory {
	uint64_t given;
	uint64_t bytes;
	uint32_t pages; /* enum memory_pages */
	uint32_t node;  /* or RUN_NODE_ANY */
	bool prealloc;
	uint64_t max_bytes; /* 0: as much as at boot */
	uint32_t slots;
	uint32_t nodes; /* of the guest */
};

/* ---- --memory-hotplug ---- */

#define HOTPLUG_OPTIONS(X)                                                                         \
	X(TOTAL, "total", "memory-hotplug.total_size_mib", "SIZE", NULL,                           \
	  OPTION_NEEDED(OPTION_RANGE(size, total_bytes, RUN_HOTPLUG_MIN, RUN_HOTPLUG_MAX)),        \
	  "the most that the guest can be given, beside --memory")                                 \
	X(BLOCK, "block", "memory-hotplug.block_size_mib", "SIZE", "2M",                           \
	  OPTION_RANGE(size, block_bytes, RUN_HOTPLUG_MIN, RUN_HOTPLUG_MAX),                       \
	  "what it takes and gives back at least: a power of two")                                 \
	X(SLOT, "slot", "memory-hotplug.slot_size_mib", "SIZE", "128M",                            \
	  OPTION_RANGE(size, slot_bytes, RUN_HOTPLUG_MIN, RUN_HOTPLUG_MAX),                        \
	  "what KVM and device processes have of it is a multiple of this")                        \
	X(NODE, "node", "memory-hotplug.node", "N", "0",                                           \
	  OPTION_RANGE(number, node, 0, RUN_NODES_MAX - 1),                                        \
	  "the guest's NUMA node that it belongs to: one device for each")

/* Memory that the guest takes and gives back by itself (virtio-mem), device mem0 for node 0. */
struct run_hotplug {
	uint64_t given;
	uint64_t total_bytes, block_bytes, slot_bytes;
	uint32_t node;
};

/* ---- --rejuvenate ---- */

#define REJUVENATE_OPTIONS(X)                                                                      \
	X(EVERY, "every", "mayfly.devices.*.rejuvenate.every_s", "DURATION", NULL,                 \
	  OPTION_RANGE(duration, every_ms, RUN_REJUVENATE_MIN, RUN_REJUVENATE_MAX),                \
	  "how old a device process may get")                                                      \
	X(JITTER, "jitter", "mayfly.devices.*.rejuvenate.jitter", "FRACTION", "0.2",               \
	  OPTION_OTHER(option_fraction, jitter_permille),                                          \
	  "up to this part of it is taken off at random, so that devices do not go at once")

struct run_rejuvenate {
	uint64_t given;
	uint64_t every_ms; /* 0: never */
	uint32_t jitter_permille;
};

/* ---- --balloon ---- */

#define BALLOON_OPTIONS(X)                                                                         \
	X(AMOUNT, "amount", "balloon.amount_mib", "SIZE", NULL,                                    \
	  OPTION_NEEDED(OPTION_RANGE(size, bytes, 0, RUN_BALLOON_MAX)),                            \
	  "what it is to take from the guest at first, whole MiB")                                 \
	X(DEFLATE_ON_OOM, "deflate-on-oom", "balloon.deflate_on_oom", NULL, NULL,                  \
	  OPTION_FLAG(deflate_on_oom), "the guest may take it back rather than run out of memory") \
	X(STATS, "stats", "balloon.stats_polling_interval_s", "SECONDS", "0",                      \
	  OPTION_RANGE(number, stats_s, 0, RUN_STATS_MAX),                                         \
	  "how often the guest is asked for statistics; 0: it has none to give")                   \
	X(REPORTING, "reporting", "balloon.free_page_reporting", NULL, NULL,                       \
	  OPTION_FLAG(reporting), "what is free in the guest goes back to the host by itself")

struct run_balloon {
	uint64_t given; /* OPTION_BALLOON_AMOUNT: there is one, however it came */
	uint64_t bytes;
	uint32_t stats_s;
	bool deflate_on_oom;
	bool reporting;
};

/* ---- --hang-ms and its like ---- */

/* When a device process is suspected, and what of; see core/box/box.h. */
struct run_limits {
	uint32_t hang_ms, storm_ms, audit_ms, poison_limit;
};

/* What one device has of its own; the rest is as for all. */
struct run_own {
	uint64_t every_ms; /* 0: as all devices */
	bool has_jitter;
	uint32_t jitter_permille;
	struct run_limits limits;       /* each 1 more than it is; 0: as all devices */
	char socket[OPTION_SOCKET_MAX]; /* of a back-end: where it is served; empty: by systemd's */
};

/* Devices that have an id of their own, and can have a schedule of their own: NAME, id. */
#define OWN_DEVICES(X)                                                                             \
	X(CONSOLE, "console")                                                                      \
	X(SERIAL, "serial")                                                                        \
	X(RNG, "rng")                                                                              \
	X(BALLOON, "balloon")                                                                      \
	X(MEM0, "mem0")                                                                            \
	X(MEM1, "mem1")                                                                            \
	X(MEM2, "mem2")                                                                            \
	X(MEM3, "mem3") X(MEM4, "mem4") X(MEM5, "mem5") X(MEM6, "mem6") X(MEM7, "mem7")

enum own_device {
#define OWN_DEVICE_ENUM(NAME, id) OWN_DEVICE_##NAME,
	OWN_DEVICES(OWN_DEVICE_ENUM)
#undef OWN_DEVICE_ENUM
		OWN_DEVICE_COUNT
};

/* ---- --disk ---- */

#define DISK_OPTIONS(X)                                                                            \
	X(ID, "id", "drives[].drive_id", "ID", NULL, OPTION_NEEDED(OPTION_ID(id)),                 \
	  "its name, unique among all devices")                                                    \
	X(PATH, "path", "drives[].path_on_host", "FILE", NULL,                                     \
	  OPTION_NEEDED(OPTION_TEXT(path, 1)), "raw image or block device")                        \
	X(READONLY, "readonly", "drives[].is_read_only", NULL, NULL, OPTION_FLAG(readonly),        \
	  "opened for reading only, and the guest is told")                                        \
	X(DIRECT, "direct", NULL, NULL, NULL, OPTION_FLAG(direct),                                 \
	  "past the host's page cache (O_DIRECT)")                                                 \
	X(QUEUES, "queues", "mayfly.devices.ID.queues", "N", "1",                                  \
	  OPTION_RANGE(number, queues, 1, BOX_QUEUES_MAX), "request queues")                       \
	X(LANES, "lanes", "mayfly.devices.ID.lanes", "N", "1",                                     \
	  OPTION_RANGE(number, lanes, 1, BOX_QUEUES_MAX),                                          \
	  "processes that share its queues, at most one a queue")                                  \
	X(REJUVENATE, "rejuvenate", "mayfly.devices.ID.rejuvenate.every_s", "DURATION", NULL,      \
	  OPTION_RANGE(duration, own.every_ms, RUN_REJUVENATE_MIN, RUN_REJUVENATE_MAX),            \
	  "as --rejuvenate, for this device alone")                                                \
	X(SOCKET, "socket", "mayfly.devices.ID.socket", "SOCKET", NULL,                            \
	  OPTION_TEXT(own.socket, 1), "where mayfly vhost-user serves it")

#define RUN_PARTUUID_MAX 64

enum disk_cache {
	DISK_CACHE_WRITEBACK, /* the guest flushes it */
	DISK_CACHE_UNSAFE,    /* the guest is told of no cache */
};

struct run_disk {
	uint64_t given;
	struct run_own own;
	uint32_t queues;
	uint32_t lanes;
	bool readonly;
	bool direct;
	/* By the configuration file or the API only. */
	bool root; /* the kernel's root file system; at most one disk, and then the first */
	char partuuid[RUN_PARTUUID_MAX]; /* of the partition; empty: the disk itself */
	uint32_t cache;                  /* enum disk_cache */
	struct rate_limit bandwidth;
	struct rate_limit ops;
	char id[OPTION_ID_MAX + 1];
	char path[OPTION_PATH_MAX];
};

/* ---- --console, --serial ---- */

/* NAME, as it is written, whether a path follows. */
#define ENDPOINTS(X)                                                                               \
	X(OFF, "off", 0)                                                                           \
	X(TTY, "tty", 0)                                                                           \
	X(FILE, "file:", 1)                                                                        \
	X(UNIX, "unix:", 1)

enum endpoint_kind {
#define ENDPOINT_ENUM(NAME, text, path) ENDPOINT_##NAME,
	ENDPOINTS(ENDPOINT_ENUM)
#undef ENDPOINT_ENUM
		ENDPOINT_COUNT
};

struct run_endpoint {
	uint32_t kind;              /* enum endpoint_kind */
	char path[OPTION_PATH_MAX]; /* unix: fits sockaddr_un */
};

/* ---- --death-budget, --require-seal ---- */

struct run_budget {
	uint32_t deaths; /* 0: any number */
	uint32_t seconds;
};

struct run_user {
	uint32_t uid, gid; /* uid 0: nobody else */
};

struct run_seal {
	uint32_t layers; /* bit i: enum seal_layer i must be in force */
	bool kernel;     /* all that this kernel can do must be */
};

/* ---- run ---- */

/* Whose an option is: of mayfly run alone, or of mayfly vhost-user, too.  Numbers are the same for both. */
#define RUN_OPTIONS(X)                                                                             \
	X(KERNEL, VM, "kernel", "boot-source.kernel_image_path", "FILE", NULL,                     \
	  OPTION_TEXT(kernel, 1), "bzImage or vmlinux; without one the VM waits for the API")      \
	X(INITRD, VM, "initrd", "boot-source.initrd_path", "FILE", NULL, OPTION_TEXT(initrd, 1),   \
	  "initial file system")                                                                   \
	X(CMDLINE, VM, "cmdline", "boot-source.boot_args", "TEXT", NULL, OPTION_TEXT(cmdline, 0),  \
	  "the kernel's command line; boot_args of a file or the API are taken without pci=off "   \
	  "and noapic")                                                                            \
	X(CPUS, VM, "cpus", "machine-config.vcpu_count", "N", "1",                                 \
	  OPTION_RANGE(number, cpus, 1, RUN_CPUS_MAX), "virtual CPUs")                             \
	X(MEMORY, VM, "memory", NULL, "SIZE[,KEY=VALUE..]", NULL,                                  \
	  OPTION_GROUP(memory, memory_set), "guest memory")                                        \
	X(DISK, BOTH, "disk", NULL, "KEY=VALUE..", NULL,                                           \
	  OPTION_GROUPS(disks, disk_set, disk_count, RUN_DISKS_MAX), "a virtio-blk device")        \
	X(CONSOLE, VM, "console", NULL, "tty|file:FILE|unix:SOCKET|off", NULL,                     \
	  OPTION_OTHER(option_endpoint, console),                                                  \
	  "where the virtio console leads; tty unless given, off if the serial port has the tty")  \
	X(SERIAL, VM, "serial", "serial.serial_out_path", "tty|file:FILE|unix:SOCKET|off", NULL,   \
	  OPTION_OTHER(option_endpoint, serial),                                                   \
	  "where the serial port COM1 leads; off unless given, but tty, and the console off, if "  \
	  "none of --kernel, --console and --serial is (as Firecracker has it)")                   \
	X(RNG, BOTH, "rng", "entropy", NULL, NULL, OPTION_FLAG(rng), "a virtio entropy device")    \
	X(BALLOON, VM, "balloon", NULL, "SIZE[,KEY=VALUE..]", NULL,                                \
	  OPTION_GROUP(balloon, balloon_set),                                                      \
	  "a virtio memory balloon, which gives guest memory back to the host")                    \
	X(HOTPLUG, VM, "memory-hotplug", NULL, "SIZE[,KEY=VALUE..]", NULL,                         \
	  OPTION_GROUPS(hotplug, hotplug_set, hotplug_count, RUN_NODES_MAX),                       \
	  "a virtio-mem device, by which the guest grows and shrinks")                             \
	X(API_SOCKET, BOTH, "api-socket", NULL, "SOCKET", NULL, OPTION_TEXT(api_socket, 1),        \
	  "where the API listens; api.sock in the state directory unless given")                   \
	X(CONFIG, BOTH, "config", NULL, "FILE", NULL, OPTION_TEXT(config, 1),                      \
	  "JSON; options given here stand above it")                                               \
	X(ID, BOTH, "id", "mayfly.id", "NAME", NULL, OPTION_ID(id),                                \
	  "its name; vm (vhost for a back-end) and the process id unless given")                   \
	X(STATE_DIR, BOTH, "state-dir", NULL, "DIR", NULL, OPTION_TEXT(state_dir, 1),              \
	  "socket, pid file and autopsies; $XDG_RUNTIME_DIR/mayfly/ID or /run/mayfly/ID unless "   \
	  "given")                                                                                 \
	X(LOG_FILE, BOTH, "log-file", "logger.log_path", "FILE", NULL, OPTION_TEXT(log_file, 1),   \
	  "appended to; standard error unless given")                                              \
	X(LOG_LEVEL, BOTH, "log-level", "logger.level", "off|error|warn|info|debug", "warn",       \
	  OPTION_CHOICE(log_level, log_level_names), "how much is logged")                         \
	X(REJUVENATE, BOTH, "rejuvenate", NULL, "DURATION[,jitter=FRACTION]", NULL,                \
	  OPTION_GROUP(rejuvenate, rejuvenate_set),                                                \
	  "replace every device process on a schedule; never unless given")                        \
	X(HANG_MS, BOTH, "hang-ms", "mayfly.devices.*.hang_ms", "N", "1000",                       \
	  OPTION_RANGE(number, limits.hang_ms, 0, RUN_LIMIT_MS_MAX),                               \
	  "replace a device process that leaves work undone so long by its own running time, or "  \
	  "does not answer; slow storage does not count; 0: never")                                \
	X(STORM_MS, BOTH, "storm-ms", "mayfly.devices.*.storm_ms", "N", "2000",                    \
	  OPTION_RANGE(number, limits.storm_ms, 0, RUN_LIMIT_MS_MAX),                              \
	  "replace one that runs so long with nothing to do; 0: never")                            \
	X(AUDIT_MS, BOTH, "audit-ms", "mayfly.devices.*.audit_ms", "N", "10000",                   \
	  OPTION_RANGE(number, limits.audit_ms, 0, RUN_LIMIT_MS_MAX),                              \
	  "how often the seal of each is checked again; 0: once, at its birth")                    \
	X(POISON_LIMIT, BOTH, "poison-limit", "mayfly.devices.*.poison_limit", "N", "2",           \
	  OPTION_RANGE(number, limits.poison_limit, 0, RUN_POISON_MAX),                            \
	  "a request that so many processes died of is answered with an error; 0: never")          \
	X(DEATH_BUDGET, BOTH, "death-budget", NULL, "N/SECONDS", "10/60",                          \
	  OPTION_OTHER(option_budget, death_budget),                                               \
	  "a device that dies so often in so many seconds is quarantined; 0/SECONDS: never")       \
	X(REQUIRE_SEAL, BOTH, "require-seal", "mayfly.supervisor.require_seal",                    \
	  "LAYER,..|kernel|all", NULL, OPTION_OTHER(option_seal, require_seal),                    \
	  "refuse to run with less; kernel: all that this kernel can do for this user")            \
	X(UID, BOTH, "uid", NULL, "UID[:GID]", NULL, OPTION_OTHER(option_user, user),              \
	  "of root: become this user, who need not have an account, before anything is opened")    \
	X(ALLOW_FAULTS, BOTH, "allow-faults", NULL, NULL, NULL, OPTION_FLAG(allow_faults),         \
	  "faults may be injected by the API; not together with --require-seal")                   \
	X(FAULTY_PROGRAMS, BOTH, "faulty-programs", NULL, NULL, NULL,                              \
	  OPTION_FLAG(faulty_programs),                                                            \
	  "with --allow-faults: device programs that misbehave when they are told to")             \
	X(NO_REBOOT, VM, "no-reboot", NULL, NULL, NULL, OPTION_FLAG(no_reboot),                    \
	  "end when the guest resets, with status 3 when it crashed")

struct run_options {
	uint64_t given;
	char kernel[OPTION_PATH_MAX]; /* empty: none, likewise below */
	char initrd[OPTION_PATH_MAX];
	char cmdline[OPTION_CMDLINE_MAX];
	uint32_t cpus;
	bool smt; /* by configuration file or API only, and only with one CPU: then it says nothing */
	struct run_memory memory;
	struct run_disk disks[RUN_DISKS_MAX];
	uint32_t disk_count;
	struct run_endpoint console;
	struct run_endpoint serial;
	bool rng;
	struct run_balloon balloon;
	struct run_hotplug hotplug[RUN_NODES_MAX];
	uint32_t hotplug_count;
	char api_socket[OPTION_SOCKET_MAX];
	char config[OPTION_PATH_MAX];
	char id[OPTION_ID_MAX + 1];
	char state_dir[OPTION_PATH_MAX];
	char log_file[OPTION_PATH_MAX];
	uint32_t log_level; /* enum log_level */
	/* By configuration file or API only. */
	bool log_show_level;
	bool log_show_origin;
	char metrics_path[OPTION_PATH_MAX];
	struct run_rejuvenate rejuvenate;
	struct run_limits limits;
	struct run_own own[OWN_DEVICE_COUNT];
	struct run_budget death_budget;
	struct run_seal require_seal;
	struct run_user user;
	bool allow_faults;
	bool faulty_programs;
	bool no_reboot;
};

/* ---- vhost-user ---- */

/* Its first member is all that it has in common with run, so that a set's offsets and numbers fit both. */
struct vhost_options {
	struct run_options run;
	char socket[OPTION_SOCKET_MAX]; /* empty: none */
	bool incoming;           /* guests come from other back-ends, which have the images still */
	const char *operands[1]; /* blk or rng */
	uint32_t operand_count;
};

/* ---- doctor ---- */

#define DOCTOR_OPTIONS(X)                                                                          \
	X(JSON, "json", NULL, NULL, NULL, OPTION_FLAG(json), "one JSON object instead of words")

struct doctor_options {
	uint64_t given;
	bool json;
};

/* ---- ctl ---- */

#define CTL_OPTIONS(X)                                                                             \
	X(JSON, "json", NULL, NULL, NULL, OPTION_FLAG(json), "answers as the API gives them")
#define CTL_OPERANDS_MAX 5

struct ctl_options {
	uint64_t given;
	bool json;
	const char *operands[CTL_OPERANDS_MAX]; /* SOCKET COMMAND [ID [N|FAULT|MIB]] */
	uint32_t operand_count;
};

/* The numbers of the options, for `given`: RUN_KERNEL, MEMORY_SIZE, DISK_ID, ... */
#define OPTION_ENUM(prefix, NAME) OPTION_##prefix##_##NAME,
enum run_option {
#define RUN_OPTION_ENUM(NAME, whose, name, json, arg, fallback, how, text) OPTION_ENUM(RUN, NAME)
	RUN_OPTIONS(RUN_OPTION_ENUM)
#undef RUN_OPTION_ENUM
};
enum memory_option {
#define MEMORY_OPTION_ENUM(NAME, name, json, arg, fallback, how, text) OPTION_ENUM(MEMORY, NAME)
	MEMORY_OPTIONS(MEMORY_OPTION_ENUM)
#undef MEMORY_OPTION_ENUM
};
enum balloon_option {
#define BALLOON_OPTION_ENUM(NAME, name, json, arg, fallback, how, text) OPTION_ENUM(BALLOON, NAME)
	BALLOON_OPTIONS(BALLOON_OPTION_ENUM)
#undef BALLOON_OPTION_ENUM
};
enum hotplug_option {
#define HOTPLUG_OPTION_ENUM(NAME, name, json, arg, fallback, how, text) OPTION_ENUM(HOTPLUG, NAME)
	HOTPLUG_OPTIONS(HOTPLUG_OPTION_ENUM)
#undef HOTPLUG_OPTION_ENUM
};
#undef OPTION_ENUM
#define OPTION_GIVEN(options, number) (((options)->given >> (number)) & 1u)

/* An option_parse_fn each, for the fields of these types. */
option_parse_fn option_endpoint;
option_parse_fn option_budget;
option_parse_fn option_seal;
option_parse_fn option_user;

#define OPTION_SEAL_TEXT_MAX 256
/* The value that option_seal() reads as this; empty: nothing is required. */
void option_seal_text(const struct run_seal *seal, char text[OPTION_SEAL_TEXT_MAX]);

static inline bool run_has_balloon(const struct run_options *run)
{
	return OPTION_GIVEN(&run->balloon, OPTION_BALLOON_AMOUNT);
}

/* 0, or what is wrong with a balloon of this size, named by the key of a file and of the API. */
int run_balloon_check(const struct run_options *run, uint64_t bytes, struct option_error *error);

/* 0, or what is wrong with sizes of a virtio-mem device, named by the key of a file and of the API. */
int run_hotplug_check(void *hotplug, struct option_error *error);
/* The id of the device of this node. */
void run_hotplug_id(uint32_t node, char id[OPTION_ID_MAX + 1]);
/* Of this node; NULL: none. */
struct run_hotplug *run_hotplug(struct run_options *run, uint32_t node);

/* Whether it is the id of a device that is no disk, there or not. */
bool option_id_reserved(const char *id);

/* Where console and serial port lead when it was not said.  By the command line alone: the console
 * to the tty.  Else, where the kernel is the configuration's or the API's, as Firecracker: the serial
 * port to the tty, no console. */
void run_streams(struct run_options *run);

/* The disk of this id; NULL: none. */
struct run_disk *run_disk(struct run_options *run, const char *id);
/* What the device of this id has of its own: a disk, or one of OWN_DEVICES; NULL: neither. */
struct run_own *run_own(struct run_options *run, const char *id);
/* What a device goes by: complete; every_ms 0: never; limits as they are. */
struct run_own run_settings_of(const struct run_options *run, const char *id);

/* The kernel's command line, with what the root device adds. 0, or -E2BIG. */
int run_cmdline(const struct run_options *options, char text[OPTION_CMDLINE_MAX]);

extern const struct option_set run_set;
extern const struct option_set vhost_set;
extern const struct option_set disk_set;    /* of --disk */
extern const struct option_set hotplug_set; /* of --memory-hotplug */
extern const struct option_set doctor_set;
extern const struct option_set ctl_set;

/* What mayfly vhost-user is to do, from its options and from their configuration file, where there is one: complete
 * and consistent, each device with the socket that was said for it; one without takes one of systemd's.
 * 0, or -EINVAL with a line in error. */
int vhost_configure(const struct vhost_options *vhost, struct run_options *run,
		    struct option_error *error);

/* What must hold between options, however they came: at the end of a command line and of a file, and
 * before the start, since the API changes one thing at a time. */
int run_consistent(const struct run_options *run, struct option_error *error);

/* What the size of memory must be a multiple of. */
uint64_t memory_page_bytes(enum memory_pages pages);

#endif
