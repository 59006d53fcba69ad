/* SPDX-License-Identifier: Apache-2.0 */
/* A VM, as the process around it wants it. */
#include "core/run.h"

#include <errno.h>

#include "core/config.h"
#include "core/confine.h"
#include "core/process.h"
#include "core/vmm.h"

#define OUTPUT (CONFINE_READ | CONFINE_WRITE | CONFINE_MAKE)

static int configure(const void *verb_options, struct run_options *options,
		     struct option_error *error)
{
	*options = *(const struct run_options *)verb_options;
	return options->config[0] != '\0' ? config_load(options->config, &run_set, options, error)
					  : 0;
}

/* All its devices are under one supervisor, since they have one guest's memory. */
static uint32_t spawners(const struct run_options *options)
{
	(void)options;
	return 1;
}

static void add_stream(struct process_files *files, const struct run_endpoint *e)
{
	if (e->kind == ENDPOINT_FILE)
		process_files_add(files, e->path, OUTPUT);
	else if (e->kind == ENDPOINT_UNIX)
		process_files_add_socket(files, e->path);
}

/* Where the command line or the configuration name the kernel, files are all known; where the API is to, its
 * client may name any file, and then only what is done with files is bounded: nothing outside the state
 * directory is run or removed, and nothing but plain files made. */
static void add_files(const struct run_options *options, struct process_files *files)
{
	process_files_add(files, "/dev/kvm", CONFINE_READ | CONFINE_WRITE);
	process_files_add(files, options->kernel, CONFINE_READ);
	process_files_add(files, options->initrd, CONFINE_READ);
	add_stream(files, &options->console);
	add_stream(files, &options->serial);
	process_files_add(files, options->metrics_path, OUTPUT);
	if (options->kernel[0] == '\0')
		process_files_add(files, "/", OUTPUT);
}

static int create(const struct process_site *site, struct process_made *made,
		  struct option_error *error)
{
	struct vmm *vmm;

	if (vmm_create(&vmm, site->options, &site->spawners[0], site->loop) != 0) {
		option_fail(error, "out of memory");
		return -ENOMEM;
	}
	*made = (struct process_made){ vmm, vmm_station(vmm), vmm };
	return 0;
}

/* Without a kernel the API starts it. */
static int start(void *self, const struct process_site *site, struct option_error *error)
{
	return site->options->kernel[0] != '\0' ? vmm_start(self, error) : 0;
}

static void wind_up(void *self)
{
	vmm_wind_up(self);
}

static void destroy(void *self)
{
	vmm_destroy(self);
}

static int exit_status(void *self)
{
	return vmm_exit_status(self);
}

int run_main(const struct run_options *options)
{
	static const struct process_ops ops = {
		.verb = "run",
		.instance = "VM",
		.configure = configure,
		.spawners = spawners,
		.files = add_files,
		.create = create,
		.start = start,
		.wind_up = wind_up,
		.destroy = destroy,
		.exit_status = exit_status,
	};

	return process_main(&ops, options);
}
