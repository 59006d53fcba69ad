/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `mayfly run` says of bad input: one line on stderr that names the thing, exit status 1, or 2
 * where the words on the command line are wrong already.  Nothing is left behind.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "core/box/host.h"
#include "core/cc.h"
#include "core/options.h"
#include "tests/host/kvm_guest.h"
#include "tests/host/kvm_skip.h"
#include "tests/rig/mayfly.h"
#include "tests/unit/kernelfile.h"

#define KVM_REFUSED "/dev/kvm: no permission: join the group that owns it"
#define NOBODY 61001

static char dir[64];
static struct mayfly_result result;

static void path_of(char *path, size_t room, const char *name)
{
	snprintf(path, room, "%s/%s", dir, name);
}

static void make_file(const char *name, const void *data, size_t bytes, mode_t mode)
{
	char path[128];
	int fd;

	path_of(path, sizeof(path), name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* words, in which @ is the test's directory: ends with this status and one line that has this text. */
static void ends(const char *words, int status, const char *text)
{
	char line[2048], want[512];
	size_t n = (size_t)snprintf(line, sizeof(line), "run --state-dir %s/state --console off ",
				    dir);
	size_t w = 0;

	for (; *words != '\0'; words++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, *words == '@' ? "%s" : "%.1s",
				      *words == '@' ? dir : words);
	for (; *text != '\0'; text++)
		w += (size_t)snprintf(want + w, sizeof(want) - w, *text == '@' ? "%s" : "%.1s",
				      *text == '@' ? dir : text);
	assert_int_equal(mayfly_call(line, &result), 0);
	if (result.status != status || strstr(result.err, want) == NULL)
		fail_msg("%s: status %d, not %d; '%s', not '%s'", line, result.status, status,
			 result.err, want);
	assert_ptr_equal(strchr(result.err, '\n'), result.err + strlen(result.err) - 1);
	assert_int_equal(strncmp(result.err, "mayfly run: ", 12), 0);
	assert_string_equal(result.out, "");
}

static void test_usage(void **state)
{
	(void)state;
	ends("--memory 0", 2, "--memory: 0 is not between");
	ends("--memory 1G,max=512M", 2, "--memory: max must be at least the size at boot");
	ends("--hang-ms 3600001", 2, "--hang-ms: 3600001 is not between 0 and 3600000");
	ends("--storm-ms x", 2, "--storm-ms: ");
	ends("--audit-ms -1", 2, "--audit-ms: ");
	ends("--poison-limit 65", 2, "--poison-limit: 65 is not between 0 and 64");
	ends("--allow-faults --require-seal kernel", 2,
	     "--allow-faults: not together with --require-seal");
	ends("--faulty-programs", 2, "--faulty-programs: needs --allow-faults");
	ends("--cpus 33", 2, "--cpus: 33 is not between 1 and 32");
	ends("--disk id=a,path=/a --disk id=a,path=/b", 2, "--disk: id: 'a' given twice");
	ends("--memory 33M,pages=thp", 2, "--memory: size must be a multiple of 2M");
	ends("--disk id=a,path=/a,lanes=2", 2, "--disk: a: lanes=2 is more than queues=1");
	ends("--balloon 513M", 2, "balloon: amount_mib: 513 is more than the 512 MiB of memory");
	ends("--balloon 1M,stats=65536", 2, "--balloon: stats: 65536 is not between 0 and 65535");
	ends("--balloon 4K", 2, "--balloon: amount: not whole MiB");
	ends("--balloon reporting", 2, "--balloon: ");
	ends("--memory-hotplug 100M", 2,
	     "--memory-hotplug: total_size_mib: must be a multiple of slot_size_mib, 128");
	ends("--memory-hotplug 1G,block=3M", 2,
	     "--memory-hotplug: block_size_mib: must be a power of two");
	ends("--memory-hotplug 1G,block=4M,slot=6M", 2,
	     "--memory-hotplug: slot_size_mib: must be a multiple of block_size_mib, 4");
	ends("--memory-hotplug 1G,block=1M", 2, "--memory-hotplug: block: ");
	ends("--memory-hotplug 1G,node=1", 2, "memory-hotplug: node: the guest has 1 NUMA nodes");
	ends("--memory-hotplug 1G --memory-hotplug 2G", 2,
	     "memory-hotplug: node: 0 has one already");
	ends("--memory-hotplug 129G", 2,
	     "memory-hotplug: slot_size_mib: must be larger: 1032 slots");
	ends("--memory 1G,pages=1g --memory-hotplug 1G", 2,
	     "memory-hotplug: block_size_mib: less than a page of the memory, 1024 MiB");
	ends("--disk id=mem0,path=/a", 2, "--disk: id: 'mem0' is another device's");
	ends("--disk id=balloon,path=/a", 2, "--disk: id: 'balloon' is another device's");
	ends("--disk id=rng,path=/a", 2, "--disk: id: 'rng' is another device's");
	ends("kernel", 2, "unexpected argument 'kernel'");
}

static void test_kernel(void **state)
{
	(void)state;
	ends("--kernel @/none", 1, "@/none: No such file or directory");
	ends("--kernel @/kernel --initrd @/none", 1, "@/none: No such file or directory");
	if (geteuid() != 0)
		ends("--kernel @/secret", 1, "@/secret: Permission denied");
}

/* ---- what is found out with a VM at hand ---- */

static void test_not_a_kernel(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	ends("--kernel @/text", 1,
	     "kernel @/text: cannot be booted here: neither a bzImage nor an ELF");
	ends("--kernel @/empty", 1, "kernel @/empty: the file ends too early");
	ends("--kernel @", 1, "kernel @: must be a regular file");
	ends("--kernel /proc/self/exe", 1,
	     "kernel /proc/self/exe: cannot be booted here: an ELF file without PVH note");
}

/* Each is told of by its own name, not by the kernel's. */
static void test_what_goes_with_it(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	ends("--kernel @/kernel --initrd @", 1, "run: initrd @: must be a regular file");
	ends("--kernel @/short --cmdline quiet", 1, "run: cmdline: longer than this kernel allows");
}

static void test_too_long_with_root(void **state)
{
	static const char format[] =
		"{\"boot-source\":{\"kernel_image_path\":\"%s/kernel\",\"boot_args\":\"%s\"},"
		"\"drives\":[{\"drive_id\":\"a\",\"path_on_host\":\"%s/image\","
		"\"is_root_device\":true}]}";
	char args[OPTION_CMDLINE_MAX - 8], text[4096];

	(void)state;
	if (!kvm_or_skip())
		return;
	memset(args, 'x', sizeof(args));
	args[sizeof(args) - 1] = '\0';
	snprintf(text, sizeof(text), format, dir, args, dir);
	make_file("config", text, strlen(text), 0600);
	ends("--config @/config --serial off", 1, "run: cmdline: too long with the root device");
}

static void test_seal(void **state)
{
	struct seal_host host;

	(void)state;
	seal_host_probe(&host);
	if (seal_host_lacks(&host, 0, true) == 0) {
		printf("this host has every layer that its kernel can do\n");
		skip();
	}
	ends("--kernel @/kernel --require-seal kernel", 1, "--require-seal: not to be had here: ");
}

/* Boxes of an ordinary user have his ids: never too little by kind, always by name. */
static void test_seal_ids(void **state)
{
	(void)state;
	if (geteuid() == 0) {
		printf("root has ids to give\n");
		skip();
	}
	ends("--kernel @/kernel --require-seal ids", 1, "not to be had here: ids");
}

/* In a child: as if Landlock had been left out of lsm= at boot. */
static int run_without_landlock(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	char words[512];

	if (filter == NULL ||
	    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EOPNOTSUPP), SYS_landlock_create_ruleset, 0) !=
		    0 ||
	    seccomp_load(filter) != 0)
		return 1;
	seccomp_release(filter);
	snprintf(words, sizeof(words),
		 "run --state-dir %s/state --console off --kernel %s/kernel --require-seal kernel",
		 dir, dir);
	if (mayfly_call(words, &result) != 0)
		return 1;
	fputs(result.err, stderr);
	return result.status == 1 && strstr(result.err, "not to be had here: landlock (mayfly") ? 0
												: 1;
}

static int in_child(int (*run)(void))
{
	int status;

	fflush(NULL);
	const pid_t pid = fork();

	if (pid == 0)
		_exit(run());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_seal_switched_off(void **state)
{
	(void)state;
	assert_int_equal(in_child(run_without_landlock), 0);
}

/* As an ordinary user who is not in the group of /dev/kvm. As root: see test_no_kvm(). */
static void test_kvm_refused(void **state)
{
	(void)state;
	if (access("/dev/kvm", R_OK | W_OK) == 0 || errno != EACCES) {
		printf("%s\n",
		       errno == ENOENT ? "there is no /dev/kvm" : "this user may use /dev/kvm");
		skip();
	}
	ends("--kernel @/kernel", 1, KVM_REFUSED);
}

static void test_disk(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[128];
	cleanup_fd int fd = -1;

	(void)state;
	if (!kvm_or_skip())
		return;
	ends("--kernel @/kernel --disk id=a,path=@/none", 1, "@/none");
	ends("--kernel @/kernel --disk id=a,path=@/odd", 1, "@/odd");
	ends("--kernel @/kernel --disk id=a,path=@/empty", 1, "@/empty");
	ends("--kernel @/kernel --disk id=a,path=@", 1, "@");
	if (geteuid() != 0)
		ends("--kernel @/kernel --disk id=a,path=@/secret", 1, "@/secret");
	path_of(path, sizeof(path), "image");
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	ends("--kernel @/kernel --disk id=a,path=@/image", 1, "@/image");
}

static void test_memory(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	ends("--kernel @/kernel --memory 16T", 1, "memory");
}

static void test_places(void **state)
{
	(void)state;
	ends("--api-socket @/text", 1, "cannot listen at @/text");
	ends("--api-socket @/none/sock", 1, "cannot listen at @/none/sock");
	ends("--log-file @/none/log", 1, "@/none/log");
	ends("--state-dir @/text/x", 2, "--state-dir: given twice");
}

static void file_ends(const char *text, const char *words)
{
	char want[256];

	make_file("config", text, strlen(text), 0600);
	snprintf(want, sizeof(want), "@/config: %s", words);
	ends("--config @/config", 1, want);
}

static void test_file(void **state)
{
	static const struct {
		const char *text, *words;
	} files[] = {
		{ "", "line 1: " },
		{ "[]", "is not an object" },
		{ "{\"boot-source\":{}", "line 1: " },
		{ "{\"boot_source\":{}}", "boot_source: unknown key" },
		{ "{\"boot-source\":{}}", "boot-source.kernel_image_path: must be given" },
		{ "{\"boot-source\":{\"kernel_image_path\":\"/k\",\"x\":1}}",
		  "boot-source.x: unknown key" },
		{ "{\"network-interfaces\":[]}", "network-interfaces: not supported" },
		{ "{\"vsock\":{}}", "vsock: not supported" },
		{ "{\"balloon\":{}}", "balloon.amount_mib: must be given" },
		{ "{\"cpu-config\":\"x\"}", "cpu-config: not supported" },
		{ "{\"mmds-config\":{}}", "mmds-config: not supported" },
		{ "{\"pmem\":[]}", "pmem: not supported" },
		{ "{\"drives\":{}}", "drives: is not an array" },
		{ "{\"drives\":[7]}", "drives[0]: is not an object" },
		{ "{\"drives\":[{\"drive_id\":\"a\"}]}", "drives[0].path_on_host: must be given" },
		{ "{\"drives\":[{\"drive_id\":\"a\",\"path_on_host\":\"/a\",\"is_root_device\":false},"
		  "{\"drive_id\":\"a\",\"path_on_host\":\"/b\",\"is_root_device\":false}]}",
		  "drives[1].drive_id: 'a' given twice" },
		{ "{\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":0}}",
		  "machine-config.mem_size_mib: 0 is not between" },
		{ "{\"mayfly\":{\"memory\":{\"max_mib\":1}}}",
		  "mayfly.memory.max_mib: 1 is not between" },
		{ "{\"mayfly\":{\"memory\":{\"slots\":65}}}",
		  "mayfly.memory.slots: 65 is not between" },
		{ "{\"mayfly\":{\"devices\":{\"*\":{\"hang_ms\":3600001}}}}",
		  "mayfly.devices.*.hang_ms: 3600001 is not between" },
		{ "{\"mayfly\":{\"devices\":{\"console\":{\"storm_ms\":\"1\"}}}}",
		  "mayfly.devices.console.storm_ms: is not" },
		{ "{\"mayfly\":{\"devices\":{\"*\":{\"audit_ms\":-1}}}}",
		  "mayfly.devices.*.audit_ms: " },
		{ "{\"mayfly\":{\"devices\":{\"*\":{\"poison_limit\":65}}}}",
		  "mayfly.devices.*.poison_limit: 65 is not between" },
		{ "{\"mayfly\":{\"devices\":{\"nic\":{}}}}", "mayfly.devices.nic: no drive" },
		{ "{\"mayfly\":{\"devices\":{\"*\":{\"rejuvenate\":{\"every_s\":0}}}}}",
		  "mayfly.devices.*.rejuvenate.every_s: 0 is not between" },
		{ "{\"mayfly\":{\"supervisor\":{\"death_budget\":{\"deaths\":65}}}}",
		  "mayfly.supervisor.death_budget.deaths: 65 is not" },
		{ "{\"mayfly\":{\"supervisor\":{\"require_seal\":\"wax\"}}}",
		  "mayfly.supervisor.require_seal: 'wax' is not a layer" },
		{ "{\"mayfly\":{\"speed\":1}}", "mayfly.speed: unknown key" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		file_ends(files[i].text, files[i].words);
	ends("--config @/none", 1, "@/none: cannot open: No such file or directory");
	ends("--config @", 1, "@: is a directory");
}

static void test_file_hotplug(void **state)
{
	(void)state;
	file_ends("{\"memory-hotplug\":{}}", "memory-hotplug.total_size_mib: must be given");
	file_ends("{\"memory-hotplug\":7}", "memory-hotplug: is not an object");
	file_ends("{\"memory-hotplug\":[{\"total_size_mib\":100}]}",
		  "memory-hotplug.total_size_mib: must be a multiple of slot_size_mib, 128");
}

/* In a child, that drops root for an id that no account has and has a directory of its own: what
 * becomes of `mayfly run` there. */
static int run_as_nobody(void)
{
	char mayfly[4096], words[512];

	if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0 ||
	    mayfly_find(mayfly, sizeof(mayfly)) != 0)
		return 77;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-bad-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return 1;
	make_file("kernel", "x", 1, 0600);
	snprintf(words, sizeof(words), "run --state-dir %s/state --kernel %s/kernel", dir, dir);
	const int ret = mayfly_call(words, &result);

	path_of(words, sizeof(words), "kernel");
	unlink(words);
	if (ret != 0 || rmdir(dir) != 0)
		return 1;
	fputs(result.err, stderr);
	return result.status == 1 && strstr(result.err, KVM_REFUSED) != NULL ? 0 : 1;
}

/* /dev is this test's own: a device that only root may open. */
static void check_no_permission(void)
{
	cleanup_fd int fd = open("/dev/kvm", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	const int ret = in_child(run_as_nobody);

	if (ret == 77)
		printf("another user cannot reach the program here\n");
	else
		assert_int_equal(ret, 0);
}

/* Last: it makes another /dev for this process. */
static void test_no_kvm(void **state)
{
	static const char *const kept[] = { "null", "zero", "urandom", "random" };
	char from[64], to[128];

	(void)state;
	path_of(to, sizeof(to), "dev");
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mkdir(to, 0700) != 0 || mount("dev", to, "tmpfs", 0, NULL) != 0) {
		printf("no mount namespace: %s\n", strerror(errno));
		skip();
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		snprintf(from, sizeof(from), "dev/%s", kept[i]);
		make_file(from, "", 0, 0600);
		path_of(to, sizeof(to), from);
		snprintf(from, sizeof(from), "/dev/%s", kept[i]);
		assert_int_equal(mount(from, to, NULL, MS_BIND, NULL), 0);
	}
	path_of(to, sizeof(to), "dev");
	assert_int_equal(mount(to, "/dev", NULL, MS_MOVE, NULL), 0);
	ends("--kernel @/kernel", 1, "/dev/kvm: not there");
	check_no_permission();
}

static int setup(void **state)
{
	static uint8_t file[8192];
	const size_t payload = kvm_guest_bytes();
	const size_t bytes = kernelfile_bzimage(file, kvm_guest, (payload + 15) / 16 * 16);

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mayfly-bad-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	make_file("kernel", file, bytes, 0600);
	kernelfile_header(file)->cmdline_size = 4;
	make_file("short", file, bytes, 0600);
	make_file("text", "no kernel at all\n", 17, 0600);
	make_file("empty", "", 0, 0600);
	make_file("odd", file, 513, 0600);
	make_file("image", file, 4096, 0600);
	make_file("secret", file, 4096, 0);
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = { "kernel", "short",  "text",   "empty", "odd",
					     "image",  "secret", "config", "dev" };
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		path_of(path, sizeof(path), files[i]);
		remove(path);
	}
	return rmdir(dir); /* no state directory, no socket */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_hotplug),
		cmocka_unit_test(test_not_a_kernel),
		cmocka_unit_test(test_what_goes_with_it),
		cmocka_unit_test(test_too_long_with_root),
		cmocka_unit_test(test_seal),
		cmocka_unit_test(test_seal_ids),
		cmocka_unit_test(test_seal_switched_off),
		cmocka_unit_test(test_kvm_refused),
		cmocka_unit_test(test_disk),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_no_kvm),
	};

	return cmocka_run_group_tests_name("bad_input", tests, setup, teardown);
}
