/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of the seal, in the order in which they are put on.  The names appear in reports of a
 * failed step, in `mayfly doctor`, in a device's status and in the names of the builds that leave
 * one out (make FLAVOUR=omit-NAME).  NAME, name, what it takes away.
 */
#ifndef MAYFLY_ABI_SEAL_H
#define MAYFLY_ABI_SEAL_H

#define SEAL_LAYERS(X)                                                                             \
	X(MAPS, maps, "mappings that the launch record does not list")                             \
	X(FDS, fds, "descriptors that the launch record does not list")                            \
	X(BOUNDING, bounding,                                                                      \
	  "the capability bounding set, and regaining of capabilities by uid 0")                   \
	X(IDS, ids, "as root: the VMM's uid, gid and groups")                                      \
	X(PDEATHSIG, pdeathsig, "life after the VMM's death")                                      \
	X(CAPS, caps, "every capability")                                                          \
	X(NNP, nnp, "privileges by exec")                                                          \
	X(RLIMITS, rlimits, "new descriptors, processes, a larger image, core dumps, priorities")  \
	X(LANDLOCK, landlock, "opening of files, TCP, signals to others")                          \
	X(MSEAL, mseal, "changes to the mappings that it has")                                     \
	X(MDWE, mdwe, "executable memory that was ever writable")                                  \
	X(DUMPABLE, dumpable, "inspection by other processes of its user")                         \
	X(SECCOMP, seccomp, "every system call that its policy does not list")                     \
	X(LISTENER, listener, "silence about a forbidden call")                                    \
	X(NAMESPACES, namespaces, "the host's processes, network, files, IPC and names")

enum seal_layer {
#define SEAL_LAYER_ENUM(NAME, name, text) SEAL_LAYER_##NAME,
	SEAL_LAYERS(SEAL_LAYER_ENUM)
#undef SEAL_LAYER_ENUM
		SEAL_LAYER_COUNT
};

#endif
