/* SPDX-License-Identifier: Apache-2.0 */
/* dev: blk */
/*
 * devmodel/blk: requests by hand on a real image (memfd, a file of its own for O_DIRECT), judged by
 * what the driver sees, what is in the image after, and that the image never changes its size.
 */
#include "tests/unit/blk.h"

#include <errno.h>
#include <fcntl.h>

static void test_read(void **state)
{
	const struct ring_part cut[] = {
		{ BUFFER_GPA + 0x2000, 512, RING_W }, /* these two are adjacent */
		{ BUFFER_GPA + 0x2200, 1024, RING_W },
		{ 0, 0, RING_W },
		{ BUFFER_GPA, 512, RING_W },
	};

	(void)state;
	device_up(0);
	request_one(VIRTIO_BLK_S_OK, 4097, VIRTIO_BLK_T_IN, 3, 4096);
	assert_memory_equal(buffer(0), shadow + 3 * 512, 4096);
	request(VIRTIO_BLK_S_OK, 2049, VIRTIO_BLK_T_IN, SECTORS - 4, cut, 4);
	assert_memory_equal(buffer(0x2000), shadow + IMAGE_BYTES - 2048, 1536);
	assert_memory_equal(buffer(0), shadow + IMAGE_BYTES - 512, 512);
	request_one(VIRTIO_BLK_S_OK, 1, VIRTIO_BLK_T_IN, 0, 0);
	image_expect();
}

static void test_write(void **state)
{
	const struct ring_part cut[] = {
		{ BUFFER_GPA + 0x1001, 1, 0 }, /* a sector in odd pieces */
		{ BUFFER_GPA + 0x3003, 510, 0 },
		{ BUFFER_GPA + 0x5005, 1, 0 },
		{ BUFFER_GPA, 1024, 0 },
	};

	(void)state;
	device_up(0);
	memset(buffer(0), 0xa5, BUFFER_BYTES);
	request_one(VIRTIO_BLK_S_OK, 1, VIRTIO_BLK_T_OUT, 8, 1024);
	memset(shadow + 8 * 512, 0xa5, 1024);
	image_expect();
	*buffer(0x1001) = 1;
	*buffer(0x5005) = 2;
	request(VIRTIO_BLK_S_OK, 1, VIRTIO_BLK_T_OUT, SECTORS - 3, cut, 4);
	memset(shadow + IMAGE_BYTES - 1536, 0xa5, 1536);
	shadow[IMAGE_BYTES - 1536] = 1;
	shadow[IMAGE_BYTES - 1025] = 2;
	image_expect();
}

static void test_range(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t bytes;
	} bad[] = {
		{ SECTORS, 512 },
		{ SECTORS - 1, 1024 },
		{ SECTORS + 1, 0 },
		{ UINT64_MAX, 512 },
		{ UINT64_MAX / 512, 512 },
		{ UINT64_MAX / 512 + 1, 512 },
		{ UINT64_MAX - 1, 1024 },
		{ 0, IMAGE_BYTES + 512 },
		{ 0, 511 },
		{ 0, 513 },
	};

	(void)state;
	device_up(0);
	memset(buffer(0), 0xa5, BUFFER_BYTES);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		request_one(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_OUT, bad[i].sector, bad[i].bytes);
		request_one(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_IN, bad[i].sector, bad[i].bytes);
	}
	request_one(VIRTIO_BLK_S_OK, 1, VIRTIO_BLK_T_OUT, SECTORS, 0);
	for (uint32_t i = 0; i < BUFFER_BYTES; i++)
		assert_int_equal(*buffer(i), 0xa5);
	image_expect();
}

static void test_too_large(void **state)
{
	struct ring_part data[33];

	(void)state;
	device_open(image_new(), 0, 1);
	launch.config.blk.bytes = 64u << 20; /* it is the length that must be refused */
	device_start();
	for (int i = 0; i < 33; i++)
		data[i] = (struct ring_part){ BUFFER_GPA, 1u << 20, RING_W };
	request(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_IN, 0, data, 33);
	/* At the limit it is begun; the file is shorter than promised, which is an I/O error: what
	 * was there has been read. */
	request(VIRTIO_BLK_S_IOERR, IMAGE_BYTES + 1, VIRTIO_BLK_T_IN, 0, data, 32);
	image_expect();
}

static void test_readonly(void **state)
{
	const struct ring_part range = { BUFFER_GPA, 16, 0 };

	(void)state;
	device_up(BLK_READONLY);
	memset(buffer(0), 0, 16);
	*buffer(8) = 1;
	request_one(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_OUT, 0, 512);
	request(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_DISCARD, 0, &range, 1);
	request(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, 1);
	request_one(VIRTIO_BLK_S_OK, 513, VIRTIO_BLK_T_IN, 0, 512);
	image_expect();
}

static void test_flush(void **state)
{
	(void)state;
	device_up(BLK_FLUSH);
	request_one(VIRTIO_BLK_S_OK, 1, VIRTIO_BLK_T_FLUSH, 0, 0);
	launch.config.blk.flags = 0;
	request_one(VIRTIO_BLK_S_UNSUPP, 1, VIRTIO_BLK_T_FLUSH, 0, 0);
	launch.config.blk.flags = BLK_FLUSH;
	launch.fd_backend = (uint16_t)ring.kick; /* an eventfd has no fdatasync: EINVAL */
	request_one(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_FLUSH, 0, 0);
}

static void test_unknown(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 10, 14, 0x80000000, UINT32_MAX };

	(void)state;
	device_up(BLK_FLUSH);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		request_one(VIRTIO_BLK_S_UNSUPP, 1, types[i], 0, 512);
	image_expect();
}

static void test_get_id(void **state)
{
	const struct ring_part whole = { ID_GPA, BLK_ID_BYTES, RING_W };
	const struct ring_part pieces[] = { { ID_GPA + 100, 3, RING_W }, { ID_GPA, 4, RING_W } };
	char *id;

	(void)state;
	device_up(0);
	id = ring_at(&ring, ID_GPA, 200);
	request(VIRTIO_BLK_S_OK, 21, VIRTIO_BLK_T_GET_ID, 0, &whole, 1);
	assert_memory_equal(id, ID, BLK_ID_BYTES);
	memset(id, 0, 200);
	request(VIRTIO_BLK_S_OK, 8, VIRTIO_BLK_T_GET_ID, 0, pieces, 2);
	assert_memory_equal(id + 100, ID, 4 - 1);
	assert_memory_equal(id, &ID[3], 4);
	assert_int_equal(id[4], 0);
}

static void range_request(uint8_t want, uint32_t type, uint64_t sector, uint32_t sectors,
			  uint32_t flags, uint32_t bytes)
{
	const struct virtio_blk_discard_write_zeroes range[2] = { { sector, sectors, flags },
								  { 0, 0, 0 } };
	/* Cut in the middle of a field. */
	const struct ring_part data[] = { { BUFFER_GPA, bytes > 3 ? 3 : bytes, 0 },
					  { BUFFER_GPA + 3, bytes > 3 ? bytes - 3 : 0, 0 } };

	memcpy(buffer(0), range, sizeof(range));
	request(want, 1, type, 0, data, 2);
}

static void range_rules(uint32_t type)
{
	range_request(VIRTIO_BLK_S_OK, type, 0, 0, 0, 16);
	range_request(VIRTIO_BLK_S_OK, type, SECTORS, 0, 0, 16);
	range_request(VIRTIO_BLK_S_IOERR, type, SECTORS, 1, 0, 16);
	range_request(VIRTIO_BLK_S_IOERR, type, SECTORS - 1, 2, 0, 16);
	range_request(VIRTIO_BLK_S_IOERR, type, UINT64_MAX, 1, 0, 16);
	range_request(VIRTIO_BLK_S_IOERR, type, UINT64_MAX / 512, 8, 0, 16);
	range_request(VIRTIO_BLK_S_IOERR, type, 0, UINT32_MAX, 0, 16);
	range_request(VIRTIO_BLK_S_UNSUPP, type, 0, 1, 2, 16);
	range_request(VIRTIO_BLK_S_UNSUPP, type, 0, 1, 0x80000000, 16);
	range_request(VIRTIO_BLK_S_UNSUPP, type, 0, 1, 0, 32);
	range_request(VIRTIO_BLK_S_UNSUPP, type, 0, 1, 0, 15);
	range_request(VIRTIO_BLK_S_UNSUPP, type, 0, 1, 0, 0);
	image_expect();
	launch.config.blk.bytes = 1ull << 40;
	range_request(VIRTIO_BLK_S_IOERR, type, 0, BLK_ZERO_MAX_SECTORS + 1, 0, 16);
	launch.config.blk.bytes = IMAGE_BYTES;
	image_expect();
}

static void test_discard(void **state)
{
	int no_holes = open("/proc/self/comm", O_RDWR | O_CLOEXEC);
	int image;

	(void)state;
	device_up(0);
	range_rules(VIRTIO_BLK_T_DISCARD);
	range_request(VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, 0, 1, 1, 16);
	image_expect();
	range_request(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_DISCARD, SECTORS - 16, 16, 0, 16);
	memset(shadow + IMAGE_BYTES - 16 * 512, 0, 16 * 512);
	image_expect();
	image = launch.fd_backend;
	launch.fd_backend = (uint16_t)no_holes; /* no fallocate at all: EOPNOTSUPP */
	range_request(VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 16);
	launch.fd_backend = (uint16_t)ring.kick; /* not a file: another error */
	range_request(VIRTIO_BLK_S_IOERR, VIRTIO_BLK_T_DISCARD, 0, 1, 0, 16);
	launch.fd_backend = (uint16_t)image;
	close(no_holes);
}

/* A memfd punches holes but has no ZERO_RANGE: both ways of zeroing are taken. */
static void test_write_zeroes(void **state)
{
	(void)state;
	device_up(0);
	range_rules(VIRTIO_BLK_T_WRITE_ZEROES);
	range_request(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_WRITE_ZEROES, 8, 9, 1, 16);
	memset(shadow + 8 * 512, 0, 9 * 512);
	image_expect();
	range_request(VIRTIO_BLK_S_OK, VIRTIO_BLK_T_WRITE_ZEROES, SECTORS - 101, 101, 0, 16);
	memset(shadow + IMAGE_BYTES - 101 * 512, 0, 101 * 512);
	image_expect();
}

static void test_short(void **state)
{
	static const struct ring_part chains[][2] = {
		{ { HEADER_GPA, 16, 0 }, { 0, 0, 0 } },
		{ { HEADER_GPA, 16, 0 }, { 0, 0, RING_W } },
		{ { HEADER_GPA, 15, 0 }, { STATUS_GPA, 1, RING_W } },
		{ { HEADER_GPA, 16, RING_W }, { STATUS_GPA, 1, RING_W } },
	};

	(void)state;
	device_up(0);
	for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		ring_post(&ring, chains[i], 2);
		assert_int_equal(dev_program.serve(&dev, q), SERVE_BROKEN);
		assert_int_equal(q->error, RING_ERROR_SHORT);
		assert_int_equal(dev_program.serve(&dev, q), SERVE_BROKEN);
		assert_int_equal(ring_used(&ring)->idx, 0);
		assert_int_equal(ring_signals(&ring), 0);
		q->error = RING_ERROR_NONE;
		ring.posted = 0;
	}
}

static void test_odd_framing(void **state)
{
	/* The header in three pieces; status in one piece with the data; an empty piece behind
	 * it. */
	const struct ring_part parts[] = {
		{ HEADER_GPA, 3, 0 },        { HEADER_GPA + 3, 12, 0 }, { HEADER_GPA + 15, 1, 0 },
		{ BUFFER_GPA, 513, RING_W }, { 0, 0, RING_W },
	};
	/* Header and data of a write in one piece. */
	const struct ring_part joined[] = { { BUFFER_GPA, 16 + 512, 0 },
					    { STATUS_GPA, 1, RING_W } };
	const struct virtio_blk_outhdr read = { .type = VIRTIO_BLK_T_IN, .sector = 5 };
	const struct virtio_blk_outhdr write = { .type = VIRTIO_BLK_T_OUT, .sector = 6 };

	(void)state;
	device_up(0);
	memcpy(ring_at(&ring, HEADER_GPA, 16), &read, 16);
	*buffer(512) = UNANSWERED;
	*buffer(513) = UNANSWERED;
	ring_post(&ring, parts, 5);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 513);
	assert_memory_equal(buffer(0), shadow + 5 * 512, 512);
	assert_int_equal(*buffer(512), VIRTIO_BLK_S_OK);
	assert_int_equal(*buffer(513), UNANSWERED);

	memcpy(buffer(0), &write, 16);
	memset(buffer(16), 0x77, 512);
	ring_post(&ring, joined, 2);
	assert_int_equal(dev_program.serve(&dev, q), SERVE_DONE);
	assert_int_equal(answered(), 1);
	memset(shadow + 6 * 512, 0x77, 512);
	image_expect();
}

static void test_image_fails(void **state)
{
	(void)state;
	device_up(0);
	assert_int_equal(ftruncate(launch.fd_backend, 5 * 512 + 100), 0);
	/* What is there of whole sectors is delivered and counted, the request fails. */
	request_one(VIRTIO_BLK_S_IOERR, 2 * 512 + 1, VIRTIO_BLK_T_IN, 3, 4096);
	assert_memory_equal(buffer(0), shadow + 3 * 512, 1024);
	request_one(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_IN, 8, 512);
	assert_int_equal(ftruncate(launch.fd_backend, IMAGE_BYTES), 0);
	assert_int_equal(fcntl(launch.fd_backend, F_ADD_SEALS, F_SEAL_WRITE), 0);
	request_one(VIRTIO_BLK_S_IOERR, 1, VIRTIO_BLK_T_OUT, 0, 512);
	request_one(VIRTIO_BLK_S_OK, 513, VIRTIO_BLK_T_IN, 0, 512);
}

/* Random requests against a model: the image and the driver's buffer, byte for byte. */

static uint32_t random_below(uint32_t n)
{
	return (uint32_t)random() % n;
}

/* Cuts `bytes` into pieces of at least `piece`; returns how many. */
static uint16_t random_cut(struct ring_part *data, uint32_t bytes, uint32_t piece, uint16_t flags)
{
	uint32_t at = random_below(256) * piece;
	uint16_t n = 0;

	while (bytes) {
		uint32_t len = n == 100 ? bytes : (1 + random_below(bytes / piece)) * piece;

		data[n++] = (struct ring_part){ BUFFER_GPA + at, len, flags };
		bytes -= len;
		at += len + random_below(3) * piece;
	}
	return n;
}

static void random_request(uint32_t unit, uint32_t piece)
{
	bool write = random_below(2);
	uint32_t bytes = (1 + random_below(40)) * unit;
	uint32_t at = random_below((IMAGE_BYTES - bytes) / unit + 1) * unit;
	uint8_t *disk = shadow + at;
	struct ring_part data[126];
	uint16_t n = random_cut(data, bytes, piece, write ? 0 : RING_W);

	for (uint16_t i = 0; write && i < n; i++) {
		uint8_t *p = ring_at(&ring, data[i].gpa, data[i].len);

		for (uint32_t j = 0; j < data[i].len; j++)
			*disk++ = p[j] = (uint8_t)random();
	}
	request(VIRTIO_BLK_S_OK, write ? 1 : bytes + 1, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		at / 512, data, n);
	for (uint16_t i = 0; !write && i < n; i++) {
		assert_memory_equal(ring_at(&ring, data[i].gpa, data[i].len), disk, data[i].len);
		disk += data[i].len;
	}
}

static void test_random(void **state)
{
	static const uint32_t pieces[] = { 512, 256, 64, 1 };

	(void)state;
	srandom(2);
	device_up(0);
	for (int i = 0; i < 2000; i++)
		random_request(512, pieces[random_below(4)]);
	image_expect();
}

static void direct_random(uint32_t align)
{
	char path[] = "/var/tmp/mayfly-test-blk-XXXXXX";
	int plain = mkstemp(path), memory = image_new(), fd;

	assert_true(plain >= 0);
	assert_int_equal(pwrite(plain, shadow, IMAGE_BYTES, 0), IMAGE_BYTES);
	close(memory);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	unlink(path);
	if (fd < 0) {
		close(plain);
		print_message("no O_DIRECT in /var/tmp: skipped\n");
		skip();
	}
	device_open(fd, BLK_DIRECT, align);
	device_start();
	for (int i = 0; i < 300; i++)
		random_request(align, random_below(2) ? align : 4);
	close(launch.fd_backend);
	launch.fd_backend = (uint16_t)plain;
	image_expect();
}

static void test_direct_512(void **state)
{
	(void)state;
	srandom(3);
	direct_random(512);
}

static void test_direct_4096(void **state)
{
	(void)state;
	srandom(4);
	direct_random(4096);
}

static void test_init(void **state)
{
	struct blk_config *cfg = &launch.config.blk;

	(void)state;
	device_open(image_new(), 0, 0);
	assert_int_equal(dev_program.init(&dev), 0); /* align means nothing without DIRECT */
	cfg->bytes = 0;
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	cfg->bytes = 513;
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	cfg->bytes = IMAGE_BYTES;
	cfg->flags = BLK_DIRECT;
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	cfg->align = 768;
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	cfg->align = 8192;
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	cfg->align = 4096;
	assert_int_equal(dev_program.init(&dev), 0);
	cfg->ops = (struct rate_limit){ .size = 1, .refill_ms = 0 };
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	cfg->ops.refill_ms = 1;
	assert_int_equal(dev_program.init(&dev), 0);
	launch.fd_held = launch.fd_timer; /* no timer */
	assert_int_equal(dev_program.init(&dev), -EINVAL);
	cfg->ops.size = 0;
	assert_int_equal(dev_program.init(&dev), 0);
	launch.backends = 0;
	assert_int_equal(dev_program.init(&dev), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_read, teardown),
		cmocka_unit_test_teardown(test_write, teardown),
		cmocka_unit_test_teardown(test_range, teardown),
		cmocka_unit_test_teardown(test_too_large, teardown),
		cmocka_unit_test_teardown(test_readonly, teardown),
		cmocka_unit_test_teardown(test_flush, teardown),
		cmocka_unit_test_teardown(test_unknown, teardown),
		cmocka_unit_test_teardown(test_get_id, teardown),
		cmocka_unit_test_teardown(test_discard, teardown),
		cmocka_unit_test_teardown(test_write_zeroes, teardown),
		cmocka_unit_test_teardown(test_short, teardown),
		cmocka_unit_test_teardown(test_odd_framing, teardown),
		cmocka_unit_test_teardown(test_image_fails, teardown),
		cmocka_unit_test_teardown(test_random, teardown),
		cmocka_unit_test_teardown(test_direct_512, teardown),
		cmocka_unit_test_teardown(test_direct_4096, teardown),
		cmocka_unit_test_teardown(test_init, teardown),
	};

	return cmocka_run_group_tests_name("blk", tests, NULL, NULL);
}
