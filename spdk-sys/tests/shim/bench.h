/* What the tests of the shim share: a controller of the made-up SPDK, and a queue on it. */
#ifndef FIO_SPDK_TEST_BENCH_H
#define FIO_SPDK_TEST_BENCH_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"
#include "fio_spdk.h"

#define CHECK(condition)                                                                       \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);         \
			exit(1);                                                               \
		}                                                                              \
	} while (0)

#define CHECK_EQ(got, wanted)                                                                  \
	do {                                                                                   \
		long long got_ = (long long)(got), wanted_ = (long long)(wanted);               \
		if (got_ != wanted_) {                                                         \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, \
				got_, wanted_);                                                \
			exit(1);                                                               \
		}                                                                              \
	} while (0)

enum { BLOCK = 4096, MOST_DEPTH = 256 };

struct bench {
	struct fake_drive *drive;
	struct fs_ctrlr *ctrlr;
	struct fs_queue *queue;
	struct fs_queue_options options;
	uint32_t lba_bytes;
	uint8_t *buffers;
	/* How often each tag has come back, and how. */
	uint32_t times[MOST_DEPTH];
	uint16_t status[MOST_DEPTH];
};

static inline void
bench_start(void)
{
	static bool started;
	struct fs_env_options options = { .core_mask = "[0]", .mem_size_mb = -1 };

	if (!started) {
		CHECK_EQ(fs_env_init(&options), 0);
		started = true;
	}
}

/* A controller of its own for each name; `bench->options` may have been filled in before. */
static inline void
bench_open_with(struct bench *bench, const char *id, const struct fs_ctrlr_options *options)
{
	struct fs_ns_info info;

	bench_start();
	bench->drive = fake_drive(id);
	CHECK(bench->drive != NULL);
	CHECK_EQ(fs_ctrlr_attach(id, options, &bench->ctrlr), 0);
	CHECK_EQ(fs_ns_info(bench->ctrlr, 1, &info), 0);
	bench->lba_bytes = info.lba_bytes;
	if (bench->options.depth == 0) {
		bench->options.depth = 32;
	}
	bench->options.largest_io = BLOCK;
	bench->options.delay_cmd_submit = true;
	bench->queue = fs_queue_new(&bench->options);
	CHECK(bench->queue != NULL);
	CHECK_EQ(fs_queue_add(bench->queue, bench->ctrlr, 1), 0);
	bench->buffers = fs_dma_alloc((size_t)bench->options.depth * BLOCK, 4096);
	CHECK(bench->buffers != NULL);
}

static inline void
bench_open(struct bench *bench, const char *id)
{
	struct fs_ctrlr_options options = { .keep_alive_timeout_ms = 10000 };

	bench_open_with(bench, id, &options);
}

static inline int
bench_submit(struct bench *bench, uint32_t op, uint64_t block, uint32_t tag)
{
	uint32_t blocks = op == FS_OP_FLUSH ? 0 : BLOCK / bench->lba_bytes;

	return fs_queue_submit(bench->queue, op, 0, bench->buffers + (size_t)tag * BLOCK, block * blocks, blocks,
			       tag);
}

/* Fills the queue with reads. */
static inline void
bench_fill(struct bench *bench)
{
	for (uint32_t tag = 0; tag < bench->options.depth; tag++) {
		CHECK_EQ(bench_submit(bench, FS_OP_READ, tag, tag), 0);
	}
	CHECK_EQ(fs_queue_in_flight(bench->queue), bench->options.depth);
}

/* Takes what has come back; returns how many. */
static inline uint32_t
bench_take(struct bench *bench)
{
	uint32_t count;
	const struct fs_done *done = fs_queue_done(bench->queue, &count);

	for (uint32_t at = 0; at < count; at++) {
		CHECK(done[at].tag < bench->options.depth);
		bench->times[done[at].tag]++;
		bench->status[done[at].tag] = done[at].status;
	}
	fs_queue_consume(bench->queue, count);
	return count;
}

/* Every tag below `depth` came back once. */
static inline void
bench_all_once(struct bench *bench)
{
	for (uint32_t tag = 0; tag < bench->options.depth; tag++) {
		CHECK_EQ(bench->times[tag], 1);
	}
	CHECK_EQ(fs_queue_in_flight(bench->queue), 0);
}

static inline void
bench_forget(struct bench *bench)
{
	memset(bench->times, 0, sizeof(bench->times));
	memset(bench->status, 0, sizeof(bench->status));
}

/* Polls until so many have come back. */
static inline void
bench_await(struct bench *bench, uint32_t count)
{
	for (uint32_t polls = 0; count > 0; polls++) {
		CHECK(polls < 100000);
		CHECK(fs_queue_poll(bench->queue, 0) >= 0);
		count -= bench_take(bench);
	}
}

/* One I/O from its beginning to its end; returns its status. */
static inline uint16_t
bench_one(struct bench *bench, uint32_t op, uint64_t block)
{
	bench_forget(bench);
	CHECK_EQ(bench_submit(bench, op, block, 0), 0);
	bench_await(bench, 1);
	CHECK_EQ(bench->times[0], 1);
	return bench->status[0];
}

/* Frees everything; SPDK's rules were kept throughout. */
static inline void
bench_close(struct bench *bench)
{
	fs_queue_free(bench->queue);
	fs_ctrlr_detach(bench->ctrlr);
	fs_dma_free(bench->buffers);
	CHECK_EQ(fake_get(bench->drive, FAKE_MISUSES), 0);
	CHECK_EQ(fake_get(bench->drive, FAKE_QUEUE_PAIRS), 0);
}

struct test_case {
	const char *name;
	void (*run)(void);
};

/* Runs the case that the command line names; lists them without. */
static inline int
bench_main(const struct test_case *cases, size_t count, int argc, char **argv)
{
	for (size_t at = 0; at < count; at++) {
		if (argc < 2) {
			printf("%s\n", cases[at].name);
		} else if (strcmp(cases[at].name, argv[1]) == 0) {
			cases[at].run();
			return 0;
		}
	}
	return argc < 2 ? 0 : 2;
}

#define BENCH_MAIN(cases)                                                                      \
	int main(int argc, char **argv)                                                        \
	{                                                                                      \
		return bench_main(cases, sizeof(cases) / sizeof((cases)[0]), argc, argv);       \
	}

#endif
