/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mayfly run` with memory that comes and goes: by the API, on KVM, with release programs, and a guest that
 * knows the registers of DIMMs.
 */
#include "tests/host/run_vm.h"

#include "core/http.h"
#include "tests/host/apidoc.h"
#include "tests/host/kvm_skip.h"

#define MEMORY "--memory 64M,max=1G,slots=3 "
#define VM(mode)                                                                                   \
	"--state-dir state --id test --kernel kernel --cmdline " mode                              \
	" --console off --rng --serial file:out --api-socket api " MEMORY

static const char *text_at(const char *key)
{
	const char *text = json_string_value(json_object_get(answer, key));

	return text != NULL ? text : "";
}

static json_int_t number_at(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void begin(const char *words)
{
	vm_start(-1, -1, "%s", words);
	snprintf(sock, sizeof(sock), "%s", in_dir("api"));
	AWAIT(answers("api"));
	takes("GET", "/", NULL);
	AWAIT((takes("GET", "/", NULL), strcmp(text_at("state"), "Running") == 0));
}

static void assert_epoch(json_int_t epoch)
{
	const json_t *devices;

	takes("GET", "/memory", NULL);
	answer_fits("GET", "/memory");
	assert_int_equal(number_at(answer, "epoch"), epoch);
	takes("GET", "/devices", NULL);
	devices = answer;
	for (size_t i = 0; i < json_array_size(devices); i++)
		assert_int_equal(number_at(json_array_get(devices, i), "epoch"), epoch);
}

static size_t regions(void)
{
	takes("GET", "/memory", NULL);
	return json_array_size(json_object_get(answer, "regions"));
}

/* As a user does it: twice, so that a slot and its addresses are used again. */
static void test_comes_and_goes(void **state)
{
	json_int_t epoch = 1;

	(void)state;
	if (!kvm_or_skip())
		return;
	begin(VM(RUN_GUEST_GIVES));
	assert_epoch(1);
	assert_int_equal(regions(), 1);
	for (int i = 0; i < 2; i++) {
		takes("POST", "/memory/dimms", "{\"id\":\"d0\",\"size_mib\":128}");
		answer_fits("POST", "/memory/dimms");
		assert_int_equal(number_at(answer, "epoch"), ++epoch);
		assert_epoch(epoch);
		assert_int_equal(regions(), 2);
		takes("DELETE", "/memory/dimms/d0", NULL);
		answer_fits("DELETE", "/memory/dimms/{id}");
		const json_t *proof = json_object_get(answer, "proof");

		assert_true(json_is_true(json_object_get(proof, "write_seal")));
		assert_int_equal(number_at(proof, "blocks"), 0);
		assert_int_equal(number_at(proof, "maps"), 0);
		assert_int_equal(number_at(proof, "fds"), 0);
		assert_int_equal(number_at(answer, "epoch"), ++epoch);
		assert_epoch(epoch);
		assert_int_equal(regions(), 1);
		assert_string_equal(json_string_value(json_object_get(
					    json_object_get((takes("GET", "/memory", NULL), answer),
							    "last_removed"),
					    "id")),
				    "d0");
	}
	AWAIT(strcmp(file_text("out"), "IEIE") == 0);
	assert_int_equal(vm_end(SIGTERM), 0);
}

static void test_guest_refuses(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	begin(VM(RUN_GUEST_KEEPS));
	takes("POST", "/memory/dimms", "{\"id\":\"d0\",\"size_mib\":256}");
	refuses("DELETE", "/memory/dimms/d0", NULL, 409, "d0: the guest does not eject it");
	answer_fits("DELETE", "/memory/dimms/{id}");
	assert_epoch(2);
	assert_int_equal(regions(), 2);
	AWAIT(strcmp(file_text("out"), "IR") == 0);
	assert_int_equal(vm_end(SIGTERM), 0);
}

/* Each is answered with what is wrong, and nothing has changed. */
static void test_bad_input(void **state)
{
	static const struct {
		const char *body, *text;
	} bad[] = {
		{ "{\"size_mib\":128}", "id: must be given" },
		{ "{\"id\":\"d0\"}", "size_mib: must be given" },
		{ "{\"id\":\"d 0\",\"size_mib\":128}", "id: 'd 0' is not" },
		{ "{\"id\":\"boot\",\"size_mib\":128}", "id: boot is there already" },
		{ "{\"id\":\"rng\",\"size_mib\":128}", "id: rng is there already" },
		{ "{\"id\":\"first\",\"size_mib\":128}", "id: first is there already" },
		{ "{\"id\":\"d0\",\"size_mib\":0}", "size_mib: 0 is not between" },
		{ "{\"id\":\"d0\",\"size_mib\":100}", "size_mib: must be a multiple of 128" },
		{ "{\"id\":\"d0\",\"size_mib\":1024}",
		  "size_mib: no more than 832 MiB can be added" },
		{ "{\"id\":\"d0\",\"size_mib\":128,\"node\":1000}",
		  "d0: memory: no such NUMA node" },
		{ "{\"id\":\"d0\",\"size_mib\":128,\"node\":1024}", "node: 1024 is not between" },
		{ "{\"id\":\"d0\",\"size_mib\":128,\"proximity\":1}",
		  "proximity: the guest has 1" },
		{ "{\"id\":\"d0\",\"size_mib\":128,\"pages\":\"3m\"}", "pages: '3m' is not" },
		{ "{\"id\":\"d0\",\"size_mib\":128,\"pages\":\"1g\"}",
		  "size_mib: must be a multiple of 1024" },
		{ "{\"id\":\"d0\",\"size_mib\":128,\"hot\":true}", "hot: unknown key" },
	};

	(void)state;
	if (!kvm_or_skip())
		return;
	begin(VM(RUN_GUEST_GIVES));
	takes("POST", "/memory/dimms", "{\"id\":\"first\",\"size_mib\":128}");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuses("POST", "/memory/dimms", bad[i].body, 400, bad[i].text);
	/* hugetlb without pages, wherever this host has none. */
	ask("POST", "/memory/dimms", "{\"id\":\"huge\",\"size_mib\":512,\"pages\":\"2m\"}");
	assert_true(status == 200 || (status == 400 && strstr(fault(), "2 MiB pages") != NULL));
	if (status == 200)
		takes("DELETE", "/memory/dimms/huge", NULL);
	refuses("DELETE", "/memory/dimms/boot", NULL, 400, "boot: what the VM booted with");
	refuses("DELETE", "/memory/dimms/none", NULL, 404, "none: no such memory device");
	assert_int_equal(regions(), 2);
	assert_int_equal(vm_end(SIGTERM), 0);
}

/* Without `max` there is no room, and that is said. */
static void test_cannot_grow(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	begin(GUEST(RUN_GUEST_GIVES) "--serial file:out --api-socket api");
	refuses("POST", "/memory/dimms", "{\"id\":\"d0\",\"size_mib\":128}", 400,
		"size_mib: this VM cannot grow");
	assert_int_equal(vm_end(SIGTERM), 0);
}

/* The guest was asked to eject the DIMM, of which there is one. */
static bool is_asked(void)
{
	takes("GET", "/memory", NULL);
	const json_t *dimm = json_array_get(json_object_get(answer, "regions"), 1);
	const char *state = json_string_value(json_object_get(dimm, "state"));

	return state != NULL && strcmp(state, "eject-asked") == 0;
}

/* The VM ends in the midst of it: nobody waits for ever. */
static void test_ends(void **state)
{
	pid_t client;
	int how;

	(void)state;
	if (!kvm_or_skip())
		return;
	begin(VM(RUN_GUEST_HALT)); /* it does not answer */
	takes("POST", "/memory/dimms", "{\"id\":\"d0\",\"size_mib\":128}");
	client = fork();
	if (client == 0) {
		struct http_answer got;

		(void)http_ask(sock, "DELETE", "/memory/dimms/d0", NULL, ASK_WAIT_S, &got);
		_exit(0);
	}
	AWAIT(is_asked());
	assert_int_equal(vm_end(SIGTERM), 0);
	assert_int_equal(waitpid(client, &how, 0), client);
	assert_true(WIFEXITED(how));
}

/* virtio-mem as Firecracker's API has it.  This guest has no driver for it, so that the map follows what is
 * requested, and nothing is plugged. */
static void test_reserve(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	begin(VM(RUN_GUEST_GIVES) "--memory-hotplug 512M,slot=64M ");
	refuses("PUT", "/hotplug/memory", "{\"total_size_mib\":128}", 409, "the VM was started");
	takes("GET", "/hotplug/memory", NULL);
	answer_fits("GET", "/hotplug/memory");
	assert_int_equal(number_at(answer, "total_size_mib"), 512);
	assert_int_equal(number_at(answer, "requested_size_mib"), 0);
	assert_int_equal(regions(), 1);
	takes("PATCH", "/hotplug/memory", "{\"requested_size_mib\":62}");
	assert_epoch(2); /* of all devices, its own too */
	assert_int_equal(regions(), 2);
	const json_t *region = json_array_get(json_object_get(answer, "regions"), 1);

	assert_string_equal(json_string_value(json_object_get(region, "id")), "mem0");
	assert_int_equal(number_at(region, "size_mib"), 320); /* 62 and 256, in slots */
	takes("POST", "/memory/dimms", "{\"id\":\"d0\",\"size_mib\":128}");
	takes("PATCH", "/hotplug/memory/mem0", "{\"requested_size_mib\":512}");
	assert_epoch(4);
	takes("DELETE", "/memory/dimms/d0", NULL);
	takes("PATCH", "/hotplug/memory/mem0", "{\"requested_size_mib\":0}");
	assert_epoch(5); /* nothing was unplugged */
	takes("GET", "/hotplug/memory/mem0", NULL);
	answer_fits("GET", "/hotplug/memory/{id}");
	assert_int_equal(number_at(answer, "plugged_size_mib"), 0);
	takes("POST", "/devices/mem0/replace", NULL);
	refuses("PATCH", "/hotplug/memory", "{\"requested_size_mib\":63}", 400,
		"requested_size_mib: must be a multiple of 2 (block_size_mib)");
	refuses("PATCH", "/hotplug/memory", "{\"requested_size_mib\":514}", 400,
		"requested_size_mib: no more than 512 (total_size_mib)");
	refuses("PATCH", "/hotplug/memory", "{}", 400, "requested_size_mib: must be given");
	refuses("PATCH", "/hotplug/memory/mem1", "{\"requested_size_mib\":0}", 404,
		"mem1: the VM has no such memory device");
	refuses("GET", "/hotplug/memory/rng", NULL, 404, "rng: the VM has no such memory device");
	assert_epoch(5);
	assert_int_equal(vm_end(SIGTERM), 0);
}

/* Configured by the API, and wrong only with what else there is. */
static void test_reserve_configured(void **state)
{
	(void)state;
	if (!kvm_or_skip())
		return;
	vm_start(-1, -1,
		 "--state-dir state --id test --console off --serial file:out --api-socket api");
	snprintf(sock, sizeof(sock), "%s", in_dir("api"));
	AWAIT(answers("api"));
	refuses("GET", "/hotplug/memory", NULL, 404, "mem0: the VM has no such memory device");
	takes("PUT", "/hotplug/memory", "{\"total_size_mib\":256,\"node\":1}");
	refuses("PATCH", "/hotplug/memory/mem1", "{\"requested_size_mib\":2}", 409,
		"the VM was not started");
	takes("GET", "/hotplug/memory/mem1", NULL);
	assert_int_equal(number_at(answer, "total_size_mib"), 256);
	refuses("GET", "/hotplug/memory", NULL, 404, "mem0: the VM has no such memory device");
	assert_int_equal(vm_end(SIGTERM), 0);
}

static int setup(void **state)
{
	(void)state;
	document = json_load_file("docs/api.yaml", 0, NULL);
	return document != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	json_decref(document);
	json_decref(answer);
	return 0;
}

int main(void)
{
#define RUN_TEST(name) cmocka_unit_test_setup_teardown(name, vm_setup, vm_teardown)
	const struct CMUnitTest tests[] = {
		RUN_TEST(test_comes_and_goes),
		RUN_TEST(test_guest_refuses),
		RUN_TEST(test_bad_input),
		RUN_TEST(test_cannot_grow),
		RUN_TEST(test_ends),
		RUN_TEST(test_reserve),
		RUN_TEST(test_reserve_configured),
	};

	return cmocka_run_group_tests_name("hotplug", tests, setup, teardown);
}
