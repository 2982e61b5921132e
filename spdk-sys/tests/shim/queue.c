/* Queues: completions, fullness, strays. */
#include "bench.h"

static void
every_tag_comes_back_once(void)
{
	struct bench bench = { .options.depth = 64 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:01.0");
	for (uint32_t round = 0; round < 20; round++) {
		bench_forget(&bench);
		bench_fill(&bench);
		bench_await(&bench, 64);
		bench_all_once(&bench);
	}
	CHECK_EQ(fs_queue_strays(bench.queue), 0);
	bench_close(&bench);
}

static void
nothing_happens_before_the_doorbell(void)
{
	struct bench bench = { .options.depth = 8 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:01.1");
	bench_fill(&bench);
	/* The first poll rings; nothing can have come back. */
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	CHECK_EQ(fake_get(bench.drive, FAKE_BIGGEST_BATCH), 8);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 8);
	bench_take(&bench);
	bench_all_once(&bench);
	bench_close(&bench);
}

static void
what_is_written_is_read(void)
{
	struct bench bench = { .options.depth = 4 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:01.2,lba4096");
	memset(bench.buffers, 0x5a, BLOCK);
	CHECK_EQ(bench_one(&bench, FS_OP_WRITE, 3), 0);
	CHECK_EQ(bench_one(&bench, FS_OP_FLUSH, 0), 0);
	CHECK_EQ(bench_one(&bench, FS_OP_COMPARE, 3), 0);
	memset(bench.buffers, 0, BLOCK);
	/* Compare failure (NVM Command Set 1.0, figure 24). */
	CHECK_EQ(bench_one(&bench, FS_OP_COMPARE, 3), 0x285);
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 3), 0);
	CHECK(bench.buffers[0] == 0x5a && bench.buffers[BLOCK - 1] == 0x5a);
	CHECK_EQ(bench_one(&bench, FS_OP_VERIFY, 3), 0);
	CHECK_EQ(bench_one(&bench, FS_OP_WRITE_UNCORRECTABLE, 3), 0);
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 3), 0x281);
	CHECK_EQ(bench_one(&bench, FS_OP_VERIFY, 3), 0x281);
	CHECK_EQ(bench_one(&bench, FS_OP_DEALLOCATE, 3), 0);
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 3), 0);
	CHECK(bench.buffers[0] == 0 && bench.buffers[BLOCK - 1] == 0);
	memset(bench.buffers, 0x77, BLOCK);
	CHECK_EQ(bench_one(&bench, FS_OP_WRITE, 4), 0);
	CHECK_EQ(bench_one(&bench, FS_OP_WRITE_ZEROES, 4), 0);
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 4), 0);
	CHECK(bench.buffers[0] == 0 && bench.buffers[BLOCK - 1] == 0);
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 1 << 30), 0x80);
	CHECK_EQ(bench_submit(&bench, 99, 0, 0), -EINVAL);
	CHECK_EQ(fs_queue_in_flight(bench.queue), 0);
	bench_close(&bench);
}

static void
a_status_is_passed_on_without_its_phase_bit(void)
{
	struct bench bench = { .options.depth = 8 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:01.3");
	fake_set(bench.drive, FAKE_STATUS, 0x4285);
	fake_set(bench.drive, FAKE_FAIL_AT, 3);
	bench_fill(&bench);
	bench_await(&bench, 8);
	bench_all_once(&bench);
	for (uint32_t tag = 0; tag < 8; tag++) {
		CHECK_EQ(bench.status[tag], tag == 2 ? 0x4285 : 0);
	}
	bench_close(&bench);
}

static void
callbacks_in_a_poll_that_fails_are_not_lost(void)
{
	struct bench bench = { .options.depth = 16 };
	uint32_t came;

	bench_open(&bench, "trtype:TCP traddr:10.0.0.1");
	bench_fill(&bench);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	fake_set(bench.drive, FAKE_POLL_ERRORS, 1);
	/* The connection is lost behind 5 of them. */
	CHECK(fs_queue_poll(bench.queue, 5) < 0);
	CHECK(bench_take(&bench) >= 5);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), -ENXIO);
	fs_queue_close(bench.queue);
	bench_take(&bench);
	bench_all_once(&bench);
	came = 0;
	for (uint32_t tag = 0; tag < 16; tag++) {
		CHECK(bench.status[tag] == 0 || bench.status[tag] == 0x07 || bench.status[tag] == 0x08);
		came += bench.status[tag] == 0;
	}
	CHECK_EQ(came, 5);
	bench_close(&bench);
}

static void
more_callbacks_than_asked_for_have_room(void)
{
	struct bench bench = { .options.depth = 64 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:01.4");
	fake_set(bench.drive, FAKE_EXCESS, 1000);
	bench_fill(&bench);
	CHECK_EQ(fs_queue_poll(bench.queue, 1), 0);
	CHECK_EQ(fs_queue_poll(bench.queue, 1), 64);
	bench_take(&bench);
	bench_all_once(&bench);
	bench_close(&bench);
}

static void
strays_are_counted_and_not_delivered(void)
{
	struct bench bench = { .options.depth = 8 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:01.5");
	fake_set(bench.drive, FAKE_STRAYS, 5);
	bench_fill(&bench);
	bench_await(&bench, 8);
	bench_all_once(&bench);
	CHECK_EQ(fs_queue_strays(bench.queue), 5);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	bench_close(&bench);
}

static void
a_part_can_be_consumed(void)
{
	struct bench bench = { .options.depth = 8 };
	uint32_t tags[8], count;
	const struct fs_done *done;

	bench_open(&bench, "trtype:PCIe traddr:0000:00:01.6");
	bench_fill(&bench);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 8);
	done = fs_queue_done(bench.queue, &count);
	for (uint32_t at = 0; at < 8; at++) {
		tags[at] = done[at].tag;
	}
	fs_queue_consume(bench.queue, 3);
	done = fs_queue_done(bench.queue, &count);
	CHECK_EQ(count, 5);
	for (uint32_t at = 0; at < 5; at++) {
		CHECK_EQ(done[at].tag, tags[at + 3]);
	}
	/* The tags consumed may be used, and what is left stays in front. */
	for (uint32_t at = 0; at < 3; at++) {
		CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, tags[at]), 0);
	}
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 5);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 8);
	CHECK_EQ(fs_queue_done(bench.queue, &count)[0].tag, tags[3]);
	fs_queue_consume(bench.queue, 1000);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	bench_close(&bench);
}

static void
a_full_queue_and_a_refusal_are_told_apart(void)
{
	struct bench bench = { .options.depth = 8 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:01.7");
	fake_set(bench.drive, FAKE_REFUSALS, 1);
	/* With nothing in flight nothing will ever make room. */
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), -ENOMEM);
	CHECK_EQ(fs_queue_in_flight(bench.queue), 0);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), 0);
	fake_set(bench.drive, FAKE_REFUSALS, 1);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 1, 1), -EAGAIN);
	CHECK_EQ(fs_queue_in_flight(bench.queue), 1);
	bench_await(&bench, 1);
	CHECK_EQ(bench.times[1], 0);
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 1), 0);
	bench_close(&bench);
}

static void
a_queue_smaller_than_its_depth_works_all_the_same(void)
{
	struct bench bench = { .options = { .depth = 64, .io_queue_size = 4, .io_queue_requests = 10 } };
	uint32_t submitted = 0, back = 0;

	bench_open(&bench, "trtype:PCIe traddr:0000:00:02.0,entries4");
	CHECK_EQ(fs_queue_entries(bench.queue, 0), 4);
	CHECK_EQ(fs_queue_entries(bench.queue, 1), 0);
	while (back < 64) {
		while (submitted < 64 && bench_submit(&bench, FS_OP_READ, submitted, submitted) == 0) {
			submitted++;
		}
		CHECK(fs_queue_in_flight(bench.queue) <= 10);
		CHECK(fs_queue_poll(bench.queue, 0) >= 0);
		back += bench_take(&bench);
	}
	bench_all_once(&bench);
	CHECK(fake_get(bench.drive, FAKE_BIGGEST_BATCH) <= 3);
	bench_close(&bench);
}

static void
callbacks_inside_close_and_free_are_safe(void)
{
	for (uint32_t way = 0; way < 2; way++) {
		struct bench bench = { .options.depth = 32 };

		bench_open(&bench, way == 0 ? "trtype:PCIe traddr:0000:00:02.1" : "trtype:PCIe traddr:0000:00:02.2");
		bench_fill(&bench);
		CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
		if (way == 0) {
			fs_queue_close(bench.queue);
			CHECK_EQ(bench_take(&bench), 32);
			bench_all_once(&bench);
			CHECK_EQ(bench.status[0], 0x07);
			/* Closed twice is closed, and nothing goes in any more. */
			fs_queue_close(bench.queue);
			CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), -ENXIO);
			CHECK_EQ(fs_queue_poll(bench.queue, 0), -ENXIO);
		}
		bench_close(&bench);
	}
}

static void
a_namespace_that_goes_is_a_refusal(void)
{
	struct bench bench = { .options.depth = 8 };
	uint32_t event;

	bench_open(&bench, "trtype:PCIe traddr:0000:00:02.3,ns2");
	bench_fill(&bench);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	fake_set(bench.drive, FAKE_REMOVE_NAMESPACE, 1);
	bench_await(&bench, 8);
	bench_all_once(&bench);
	CHECK_EQ(bench.status[0], 0x0b);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), -EINVAL);
	CHECK_EQ(fs_queue_in_flight(bench.queue), 0);
	CHECK_EQ(fs_ctrlr_poll(bench.ctrlr), 0);
	CHECK_EQ(fs_ctrlr_events(bench.ctrlr, &event, 1), 1);
	CHECK_EQ(event, 0x40002);
	CHECK_EQ(fs_queue_add(bench.queue, bench.ctrlr, 1), -ENOENT);
	CHECK_EQ(fs_queue_add(bench.queue, bench.ctrlr, 2), 0);
	bench_close(&bench);
}

static void
a_controller_without_queues_left_says_so(void)
{
	struct bench bench = { .options.depth = 8 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:02.4,queues2");
	CHECK_EQ(fs_queue_add(bench.queue, bench.ctrlr, 1), 0);
	CHECK_EQ(fs_queue_add(bench.queue, bench.ctrlr, 1), -EAGAIN);
	CHECK_EQ(fs_queue_add(bench.queue, bench.ctrlr, 9), -ENOENT);
	/* What could not be added is no target, and harms none. */
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 0), 0);
	bench_close(&bench);
}

static const struct test_case cases[] = {
	{ "every_tag_comes_back_once", every_tag_comes_back_once },
	{ "nothing_happens_before_the_doorbell", nothing_happens_before_the_doorbell },
	{ "what_is_written_is_read", what_is_written_is_read },
	{ "a_status_is_passed_on_without_its_phase_bit", a_status_is_passed_on_without_its_phase_bit },
	{ "callbacks_in_a_poll_that_fails_are_not_lost", callbacks_in_a_poll_that_fails_are_not_lost },
	{ "more_callbacks_than_asked_for_have_room", more_callbacks_than_asked_for_have_room },
	{ "strays_are_counted_and_not_delivered", strays_are_counted_and_not_delivered },
	{ "a_part_can_be_consumed", a_part_can_be_consumed },
	{ "a_full_queue_and_a_refusal_are_told_apart", a_full_queue_and_a_refusal_are_told_apart },
	{ "a_queue_smaller_than_its_depth_works_all_the_same", a_queue_smaller_than_its_depth_works_all_the_same },
	{ "callbacks_inside_close_and_free_are_safe", callbacks_inside_close_and_free_are_safe },
	{ "a_namespace_that_goes_is_a_refusal", a_namespace_that_goes_is_a_refusal },
	{ "a_controller_without_queues_left_says_so", a_controller_without_queues_left_says_so },
};

BENCH_MAIN(cases)
