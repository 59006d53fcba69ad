/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a process has to do with: what is the host's, its own, and its devices'. */
#include <libgen.h>
#include <stdio.h>

#include "core/cc.h"
#include "core/confine.h"
#include "core/process.h"

#define FILES_MAX (3 * RUN_DISKS_MAX + 24)
#define SOCKETS_MAX (RUN_DISKS_MAX + 4)

struct process_files {
	struct confine_path paths[FILES_MAX];
	size_t count;
	char folders[SOCKETS_MAX][OPTION_SOCKET_MAX];
	size_t folder_count;
	char state_parent[OPTION_PATH_MAX];
};

void process_files_add(struct process_files *files, const char *path, uint32_t access)
{
	if (path[0] == '\0')
		return;
	CHECK(files->count < FILES_MAX);
	files->paths[files->count++] = (struct confine_path){ path, access };
}

void process_files_add_socket(struct process_files *files, const char *path)
{
	char *folder = files->folders[files->folder_count];

	if (path[0] == '\0')
		return;
	CHECK(files->folder_count < SOCKETS_MAX);
	files->folder_count++;
	snprintf(folder, OPTION_SOCKET_MAX, "%s", path);
	process_files_add(files, dirname(folder), CONFINE_SOCKET);
}

static void add_host(struct process_files *files, const char *programs)
{
	process_files_add(files, "/proc", CONFINE_READ);
	process_files_add(files, "/sys/kernel/mm", CONFINE_READ); /* which huge pages there are */
	process_files_add(files, "/dev/urandom", CONFINE_READ);
	process_files_add(files, "/dev/null", CONFINE_READ | CONFINE_WRITE);
	process_files_add(files, "/dev/tty", CONFINE_READ | CONFINE_WRITE);
	process_files_add(files, programs, CONFINE_READ | CONFINE_RUN);
}

static void add_own(struct process_files *files, const struct run_options *o)
{
	process_files_add(files, o->state_dir, CONFINE_READ | CONFINE_WRITE | CONFINE_KEEP);
	snprintf(files->state_parent, sizeof(files->state_parent), "%s", o->state_dir);
	/* It goes in the end. */
	process_files_add(files, dirname(files->state_parent), CONFINE_RMDIR);
	process_files_add_socket(files, o->api_socket);
	process_files_add(files, o->log_file, CONFINE_READ | CONFINE_WRITE | CONFINE_MAKE);
}

static void add_disks(struct process_files *files, const struct run_options *o)
{
	for (uint32_t i = 0; i < o->disk_count; i++)
		process_files_add(files, o->disks[i].path,
				  CONFINE_READ | (o->disks[i].readonly ? 0 : CONFINE_WRITE));
}

int process_confine_files(const struct process_ops *ops, const struct run_options *options,
			  const char *programs, const char **what)
{
	struct process_files files = { .count = 0 };

	add_host(&files, programs);
	add_own(&files, options);
	add_disks(&files, options);
	if (ops->files != NULL)
		ops->files(options, &files);
	return confine_files(files.paths, files.count, what);
}
