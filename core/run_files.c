/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files a VM has to do with.  Where the command line or the configuration name the kernel, these are
 * all known; where the API is to, its client may name any file, and then only what is done with files is
 * bounded: nothing outside the state directory is run or removed, and nothing but plain files made.
 */
#include <libgen.h>
#include <stdio.h>

#include "core/confine.h"
#include "core/options.h"
#include "core/run.h"

#define FILES_MAX (RUN_DISKS_MAX + 24)
#define OUTPUT (CONFINE_READ | CONFINE_WRITE | CONFINE_MAKE)

struct files {
	struct confine_path paths[FILES_MAX];
	size_t count;
	char api_folder[OPTION_SOCKET_MAX];
	char state_parent[OPTION_PATH_MAX];
	char stream_folders[2][OPTION_PATH_MAX];
};

static void add(struct files *f, const char *path, uint32_t access)
{
	if (path[0] != '\0' && f->count < FILES_MAX)
		f->paths[f->count++] = (struct confine_path){ path, access };
}

/* The folder of a socket that is made, and removed in the end. */
static void add_socket(struct files *f, const char *path, char *room, size_t bytes)
{
	snprintf(room, bytes, "%s", path);
	add(f, dirname(room), CONFINE_SOCKET);
}

static void add_stream(struct files *f, const struct run_endpoint *e, char *room, size_t bytes)
{
	if (e->kind == ENDPOINT_FILE)
		add(f, e->path, OUTPUT);
	else if (e->kind == ENDPOINT_UNIX)
		add_socket(f, e->path, room, bytes);
}

static void add_host(struct files *f)
{
	add(f, "/proc", CONFINE_READ);
	add(f, "/sys/kernel/mm", CONFINE_READ); /* which huge pages there are */
	add(f, "/dev/kvm", CONFINE_READ | CONFINE_WRITE);
	add(f, "/dev/urandom", CONFINE_READ);
	add(f, "/dev/null", CONFINE_READ | CONFINE_WRITE);
	add(f, "/dev/tty", CONFINE_READ | CONFINE_WRITE);
}

static void add_guest(struct files *f, const struct run_options *o)
{
	add(f, o->kernel, CONFINE_READ);
	add(f, o->initrd, CONFINE_READ);
	for (uint32_t i = 0; i < o->disk_count; i++)
		add(f, o->disks[i].path, CONFINE_READ | (o->disks[i].readonly ? 0 : CONFINE_WRITE));
	add_stream(f, &o->console, f->stream_folders[0], sizeof(f->stream_folders[0]));
	add_stream(f, &o->serial, f->stream_folders[1], sizeof(f->stream_folders[1]));
	add(f, o->metrics_path, OUTPUT);
	add(f, o->log_file, OUTPUT);
	if (o->kernel[0] == '\0')
		add(f, "/", OUTPUT);
}

int run_confine_files(const struct run_options *options, const char *programs, const char **what)
{
	struct files f = { .count = 0 };

	add_host(&f);
	add(&f, programs, CONFINE_READ | CONFINE_RUN);
	add(&f, options->state_dir, CONFINE_READ | CONFINE_WRITE | CONFINE_KEEP);
	snprintf(f.state_parent, sizeof(f.state_parent), "%s", options->state_dir);
	add(&f, dirname(f.state_parent), CONFINE_RMDIR); /* it goes in the end */
	add_socket(&f, options->api_socket, f.api_folder, sizeof(f.api_folder));
	add_guest(&f, options);
	return confine_files(f.paths, f.count, what);
}
