/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/kvm.  Whether it will do is decided by making a VM the way `run` makes one; the rest says what
 * stands behind it, since some kinds of KVM run a stock kernel a thousand times slower than others.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "core/cc.h"
#include "core/doctor.h"
#include "core/machine/vm.h"

static const struct {
	int capability;
	const char *key;
	const char *text;
} capabilities[] = {
	{ KVM_CAP_USER_MEMORY, "user-memory", "guest memory from memfds" },
	{ KVM_CAP_IRQCHIP, "irqchip", "interrupt controllers in the kernel" },
	{ KVM_CAP_IRQFD, "irqfd", "interrupts from sandboxes without the VMM" },
	{ KVM_CAP_IOEVENTFD, "ioeventfd", "doorbells to sandboxes without the VMM" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate-exit", "pausing a vCPU between instructions" },
	{ KVM_CAP_NR_MEMSLOTS, "memory-slots", "how many pieces memory can have" },
	{ KVM_CAP_MAX_VCPUS, "vcpus", "at most so many" },
	{ KVM_CAP_TSC_DEADLINE_TIMER, "tsc-deadline", "the guest's best timer" },
	{ KVM_CAP_XSAVE2, "xsave2", "large register states in snapshots" },
	{ KVM_CAP_DIRTY_LOG_RING, "dirty-ring", "cheap differential snapshots" },
};

/* ---- the kind ---- */

/* NAME of the module, whether a stock kernel runs at speed. */
static const struct {
	const char *name;
	bool stock;
} modules[] = { { "kvm_intel", true }, { "kvm_amd", true }, { "kvm_pvm", false } };

static void probe_kind(struct doctor *d)
{
	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/module/%s", modules[i].name);
		if (access(path, F_OK) != 0)
			continue;
		doctor_add(d, "kvm", "kind", DOCTOR_NOTE, DOCTOR_NO_VALUE, "%s%s", modules[i].name,
			   modules[i].stock
				   ? ""
				   : ": runs a stock kernel's ring 0 by emulation, about a "
				     "million instructions a second");
		return;
	}
	doctor_add(d, "kvm", "kind", DOCTOR_NOTE, DOCTOR_NO_VALUE,
		   "none of kvm_intel, kvm_amd, kvm_pvm is in /sys/module");
}

/* "vmx", "svm" or "": the first of them in the CPU's flags. */
static const char *cpu_flag(void)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	const char *found = "";
	char line[4096];

	if (f == NULL)
		return found;
	while (*found == '\0' && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "flags", 5) != 0)
			continue;
		found = strstr(line, " vmx ") != NULL   ? "vmx"
			: strstr(line, " svm ") != NULL ? "svm"
							: "";
		break;
	}
	fclose(f);
	return found;
}

static void probe_cpu(struct doctor *d)
{
	const char *flag = cpu_flag();

	doctor_add(
		d, "kvm", "cpu", DOCTOR_NOTE, DOCTOR_NO_VALUE, "%s",
		flag[0] != '\0'
			? flag
			: "neither vmx nor svm: switched off in the firmware, or a VM without nesting");
}

/* ---- the device ---- */

static void explain_absence(struct doctor *d)
{
	const char *flag = cpu_flag();

	doctor_add(
		d, "kvm", "device", DOCTOR_BLOCKING, DOCTOR_NO_VALUE, "there is no /dev/kvm: %s",
		strcmp(flag, "vmx") == 0 ? "as root: modprobe kvm_intel"
		: strcmp(flag, "svm") == 0
			? "as root: modprobe kvm_amd"
			: "the CPU shows no virtualization (firmware, nesting); make check needs "
			  "none");
}

static void explain_refusal(struct doctor *d)
{
	const struct group *group = NULL;
	struct stat st;

	if (stat("/dev/kvm", &st) == 0 && st.st_gid != 0 && (st.st_mode & 0060) == 0060)
		group = getgrgid(st.st_gid);
	doctor_add(
		d, "kvm", "device", DOCTOR_BLOCKING, DOCTOR_NO_VALUE,
		"/dev/kvm is there, but not for this user; as root: %s%s",
		group != NULL
			? "make this user a member of group "
			: "chgrp kvm /dev/kvm, chmod 660 /dev/kvm, make this user a member of kvm",
		group != NULL ? group->gr_name : "");
}

static void probe_capabilities(struct doctor *d, int kvm)
{
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		const int value = ioctl(kvm, KVM_CHECK_EXTENSION, capabilities[i].capability);

		doctor_add(d, "kvm", capabilities[i].key, value > 0 ? DOCTOR_OK : DOCTOR_MISSING,
			   value > 0 ? value : 0, "%s: %d", capabilities[i].text,
			   value > 0 ? value : 0);
	}
}

static void probe_vm(struct doctor *d)
{
	const char *what = "";
	struct vm vm;
	const int ret = vm_create(&vm, &what);

	if (ret != 0) {
		doctor_add(d, "kvm", "vm", DOCTOR_BLOCKING, DOCTOR_NO_VALUE, "%s (%s)", what,
			   strerror(-ret));
		return;
	}
	doctor_add(d, "kvm", "vm", DOCTOR_OK, vm.phys_bits, "made one: %u bits of guest address",
		   vm.phys_bits);
	vm_destroy(&vm);
}

void doctor_kvm(struct doctor *d)
{
	cleanup_fd int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const int error = errno;

	if (kvm >= 0)
		doctor_add(d, "kvm", "device", DOCTOR_OK, DOCTOR_NO_VALUE,
			   "/dev/kvm can be opened");
	else if (error == ENOENT || error == ENODEV || error == ENXIO)
		explain_absence(d);
	else if (error == EACCES || error == EPERM)
		explain_refusal(d);
	else
		doctor_add(d, "kvm", "device", DOCTOR_BLOCKING, DOCTOR_NO_VALUE, "/dev/kvm: %s",
			   strerror(error));
	probe_kind(d);
	probe_cpu(d);
	if (kvm < 0)
		return;
	probe_capabilities(d, kvm);
	probe_vm(d);
}
