/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mayfly VERB [option]..: finds the verb, parses its options by its table, runs it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cc.h"
#include "core/ctl.h"
#include "core/doctor.h"
#include "core/options.h"
#include "core/run.h"
#include "core/vhost/vhost.h"

#define EXIT_USAGE 2

static int verb_doctor(const void *options)
{
	return doctor_main(options);
}

static int verb_ctl(const void *options)
{
	return ctl_main(options);
}

static int verb_run_vm(const void *options)
{
	return run_main(options);
}

static int verb_vhost(const void *options)
{
	return vhost_main(options);
}

static const struct verb verbs[] = {
	{ .name = "run",
	  .text = "run a virtual machine",
	  .man = "Boots a kernel, or, without one, waits for the API to say what to boot.  Ends when the "
		 "guest powers off (status 0), on SIGTERM, SIGINT, SIGHUP or SIGQUIT (0), on an error "
		 "of the host or of the configuration (1), and, with --no-reboot, when the guest "
		 "resets (0) or crashes (3).",
	  .set = &run_set,
	  .main = verb_run_vm },
	{ .name = "vhost-user",
	  .text = "serve devices to other virtual machine monitors",
	  .man = "A vhost-user back-end: the VMM of a guest connects to a device's socket, shares the "
		 "guest's memory, and a sealed process of the device's own serves it, replaced as those "
		 "of mayfly run are.  With a kind there is one device of it, with --config or --disk "
		 "and --rng any number, each at a socket of its own; what has none takes the socket of "
		 "systemd's that is named after it (FileDescriptorName=), or the only one.  When it is "
		 "ready it says so to systemd (Type=notify).  Ends on SIGTERM, SIGINT, SIGHUP or SIGQUIT "
		 "(status 0), or on an error of the host or of the configuration (1).",
	  .set = &vhost_set,
	  .main = verb_vhost },
	{ .name = "ctl",
	  .text = "ask a running VM, by its API socket",
	  .man = "Lists a VM's devices, replaces the process of one or of each in turn, tries a "
		 "quarantined one again, pauses and resumes the VM, or prints its metrics.  Exit status "
		 "1 when there is no answer or the VM refuses.",
	  .set = &ctl_set,
	  .main = verb_ctl },
	{ .name = "doctor",
	  .text = "what this host offers, and whether a VM can run here",
	  .man = "Probes the kernel, every layer of the seal, /dev/kvm, memory and limits, and makes one "
		 "sandbox, seals it, checks it from outside and throws it away.  Changes nothing.  "
		 "Exit status 1 when a VM cannot run here; each reason is one line at the end.",
	  .set = &doctor_set,
	  .main = verb_doctor },
};

/* A descriptor 0, 1 or 2 that is closed would become something that a library writes to. */
static void open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* What was printed must have arrived, or `mayfly doctor >/dev/full` would succeed. */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "mayfly: cannot write to standard output: %s\n", strerror(errno));
	return EXIT_FAILURE;
}

static int verb_run(const struct verb *verb, int argc, char *const *argv)
{
	cleanup_free void *options = calloc(1, verb->set->bytes);
	struct option_error error;
	int ret;

	if (options == NULL) {
		fprintf(stderr, "mayfly %s: out of memory\n", verb->name);
		return EXIT_FAILURE;
	}
	options_default(verb->set, options);
	ret = options_parse(verb->set, argc, argv, options, &error);
	if (ret == OPTIONS_HELP) {
		verb_help(stdout, verb);
		return EXIT_SUCCESS;
	}
	if (ret != 0) {
		fprintf(stderr, "mayfly %s: %s\n", verb->name, error.text);
		return EXIT_USAGE;
	}
	return verb->main(options);
}

static int run(int argc, char *const *argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return verb_run(&verbs[i], argc - 2, argv + 2);
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
		verbs_help(stdout, verbs, ARRAY_SIZE(verbs));
		return EXIT_SUCCESS;
	}
	if (strcmp(name, "--version") == 0) {
		puts("mayfly " MAYFLY_VERSION);
		return EXIT_SUCCESS;
	}
	if (strcmp(name, "--man") == 0) {
		verbs_man(stdout, verbs, ARRAY_SIZE(verbs));
		return EXIT_SUCCESS;
	}
	if (argc > 1)
		fprintf(stderr, "mayfly: '%.64s' is not a verb\n", name);
	verbs_help(stderr, verbs, ARRAY_SIZE(verbs));
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	open_standard();
	return finish(run(argc, argv));
}
