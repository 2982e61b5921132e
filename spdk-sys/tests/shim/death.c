/* Controllers that die, do not answer, or are reset. */
#include <time.h>

#include "bench.h"

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
silence_ends_when_the_controller_is_given_up(void)
{
	struct bench bench = { .options.depth = 64 };
	struct fs_ctrlr_health health;

	bench_open(&bench, "trtype:VFIOUSER traddr:/dead/1");
	bench_fill(&bench);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	fake_set(bench.drive, FAKE_DEATH, FAKE_SILENT);
	for (uint32_t polls = 0; polls < 100; polls++) {
		CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	}
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(health.csts == 0xffffffff && !health.failed);
	fs_ctrlr_fail(bench.ctrlr);
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(health.failed);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), -ENXIO);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), -ENXIO);
	fs_queue_close(bench.queue);
	bench_take(&bench);
	bench_all_once(&bench);
	CHECK_EQ(bench.status[63], 0x07);
	bench_close(&bench);
}

static void
a_silent_controller_is_given_up_by_close_and_free(void)
{
	for (uint32_t way = 0; way < 2; way++) {
		struct bench bench = { .options.depth = 32 };
		double began;

		bench_open(&bench, way == 0 ? "trtype:VFIOUSER traddr:/dead/2" : "trtype:VFIOUSER traddr:/dead/3");
		bench_fill(&bench);
		CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
		fake_set(bench.drive, way == 0 ? FAKE_DEATH : FAKE_ADMIN_SILENT, FAKE_SILENT);
		began = seconds();
		if (way == 0) {
			fs_queue_close(bench.queue);
			bench_take(&bench);
			bench_all_once(&bench);
		}
		bench_close(&bench);
		CHECK(seconds() - began < 120);
		CHECK_EQ(fake_get(bench.drive, FAKE_SHUTDOWNS), 0);
	}
}

static void
a_connection_that_ends_gives_everything_back(void)
{
	struct bench bench = { .options.depth = 64 };
	struct fs_ctrlr_health health;

	bench_open(&bench, "trtype:TCP traddr:10.0.0.2");
	bench_fill(&bench);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	fake_set(bench.drive, FAKE_DEATH, FAKE_DISCONNECTED);
	fs_queue_poll(bench.queue, 0);
	bench_take(&bench);
	bench_all_once(&bench);
	CHECK_EQ(bench.status[0], 0x08);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), -ENXIO);
	CHECK_EQ(fs_queue_in_flight(bench.queue), 0);
	/* Whoever looks after controllers sees it. */
	CHECK_EQ(fs_ctrlr_poll(bench.ctrlr), -ENXIO);
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(!health.failed && health.csts == 0);
	fs_ctrlr_fail(bench.ctrlr);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), -ENXIO);
	bench_close(&bench);
}

static void
a_connection_that_ends_is_cleaned_up_by_free_alone(void)
{
	struct bench bench = { .options.depth = 64 };

	bench_open(&bench, "trtype:TCP traddr:10.0.0.3");
	bench_fill(&bench);
	fake_set(bench.drive, FAKE_DEATH, FAKE_DISCONNECTED);
	bench_close(&bench);
}

static int
get_queues(struct bench *bench, uint64_t timeout_us, uint32_t *cdw0, uint16_t *status)
{
	uint8_t command[64] = { 0x0a }, data[64];

	command[40] = 0x07;
	return fs_ctrlr_admin(bench->ctrlr, command, data, sizeof(data), FS_DIR_FROM_DEVICE, timeout_us, cdw0,
			      status);
}

static void
an_answer_after_the_timeout_finds_no_freed_memory(void)
{
	struct bench bench = { 0 };
	uint32_t cdw0 = 0;
	uint16_t status = 0;

	bench_open(&bench, "trtype:PCIe traddr:0000:00:03.0,queues4");
	fake_set(bench.drive, FAKE_ADMIN_SILENT, 1);
	for (uint32_t calls = 0; calls < 3; calls++) {
		CHECK_EQ(get_queues(&bench, 1000, &cdw0, &status), -ETIMEDOUT);
	}
	fake_set(bench.drive, FAKE_ADMIN_SILENT, 0);
	CHECK_EQ(fs_ctrlr_poll(bench.ctrlr), 0);
	CHECK_EQ(get_queues(&bench, 60000000, &cdw0, &status), 0);
	CHECK_EQ(cdw0, 3 | 3 << 16);
	CHECK_EQ(status, 0);
	/* Answers that come when the controller goes. */
	fake_set(bench.drive, FAKE_ADMIN_SILENT, 1);
	CHECK_EQ(get_queues(&bench, 1000, &cdw0, &status), -ETIMEDOUT);
	fs_ctrlr_fail(bench.ctrlr);
	CHECK_EQ(get_queues(&bench, 1000, &cdw0, &status), -ENXIO);
	bench_close(&bench);
}

static void
a_timeout_is_told_once_a_command_and_can_abort(void)
{
	struct bench bench = { .options.depth = 8 };
	/* Long, or a thread that is put aside finds the others late as well. */
	struct fs_ctrlr_options options = { .command_timeout_us = 500000, .timeout_action = FS_TIMEOUT_ABORT };
	struct fs_ctrlr_health health;

	bench_open_with(&bench, "trtype:PCIe traddr:0000:00:03.1", &options);
	fake_set(bench.drive, FAKE_STUCK_AT, 2);
	bench_fill(&bench);
	bench_await(&bench, 7);
	CHECK_EQ(fs_queue_in_flight(bench.queue), 1);
	usleep(600000);
	for (uint32_t polls = 0; polls < 5; polls++) {
		CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	}
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(health.timeouts == 1 && health.aborts == 0);
	CHECK_EQ(fs_ctrlr_poll(bench.ctrlr), 0);
	bench_await(&bench, 1);
	bench_all_once(&bench);
	CHECK_EQ(bench.status[1], 0x07);
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(health.timeouts == 1 && health.aborts == 1 && health.failed_aborts == 0);
	bench_close(&bench);
}

static void
an_abort_that_fails_is_counted(void)
{
	struct bench bench = { .options.depth = 4 };
	struct fs_ctrlr_options options = { .command_timeout_us = 1000, .timeout_action = FS_TIMEOUT_ABORT };
	struct fs_ctrlr_health health;

	bench_open_with(&bench, "trtype:PCIe traddr:0000:00:03.2", &options);
	fake_set(bench.drive, FAKE_ABORTS_FAIL, 1);
	fake_set(bench.drive, FAKE_STUCK_AT, 1);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), 0);
	usleep(3000);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	CHECK_EQ(fs_ctrlr_poll(bench.ctrlr), 0);
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(health.timeouts == 1 && health.aborts == 0 && health.failed_aborts == 1);
	fs_queue_close(bench.queue);
	CHECK_EQ(bench_take(&bench), 1);
	bench_close(&bench);
}

static void
an_abort_that_is_never_answered_outlives_nothing(void)
{
	struct bench bench = { .options.depth = 4 };
	struct fs_ctrlr_options options = { .command_timeout_us = 1000, .timeout_action = FS_TIMEOUT_ABORT };
	struct fs_ctrlr_health health;

	bench_open_with(&bench, "trtype:PCIe traddr:0000:00:03.7", &options);
	fake_set(bench.drive, FAKE_STUCK_AT, 1);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), 0);
	usleep(3000);
	fake_set(bench.drive, FAKE_ADMIN_SILENT, 1);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(health.timeouts == 1 && health.aborts == 0 && health.failed_aborts == 0);
	fs_queue_close(bench.queue);
	CHECK_EQ(bench_take(&bench), 1);
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(health.failed && health.failed_aborts == 1);
	bench_close(&bench);
}

static void
timeouts_ask_for_resets_and_ends(void)
{
	static const uint32_t actions[] = { FS_TIMEOUT_NONE, FS_TIMEOUT_RESET, FS_TIMEOUT_FAIL };
	static const char *const ids[] = { "trtype:PCIe traddr:0000:00:03.3", "trtype:PCIe traddr:0000:00:03.4",
					   "trtype:PCIe traddr:0000:00:03.5" };

	for (uint32_t at = 0; at < 3; at++) {
		struct bench bench = { .options.depth = 4 };
		struct fs_ctrlr_options options = { .command_timeout_us = 1000, .timeout_action = actions[at] };
		struct fs_ctrlr_health health;

		bench_open_with(&bench, ids[at], &options);
		fake_set(bench.drive, FAKE_STUCK_AT, 1);
		CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), 0);
		usleep(3000);
		CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
		fs_ctrlr_health(bench.ctrlr, &health);
		CHECK_EQ(health.timeouts, 1);
		CHECK_EQ(health.wants_reset, at == 1);
		CHECK_EQ(health.wants_fail, at == 2);
		/* The wish stands until it is granted, whoever looks. */
		fs_ctrlr_health(bench.ctrlr, &health);
		CHECK_EQ(health.wants_reset, at == 1);
		CHECK_EQ(health.wants_fail, at == 2);
		if (at == 1) {
			CHECK_EQ(fs_ctrlr_reset(bench.ctrlr), 0);
			fs_ctrlr_health(bench.ctrlr, &health);
			CHECK(!health.wants_reset);
			CHECK_EQ(fs_queue_poll(bench.queue, 0), 1);
		}
		bench_close(&bench);
	}
}

static void
events_are_kept_in_order_and_an_overflow_loses_the_newest(void)
{
	struct bench bench = { 0 };
	uint32_t events[64];

	bench_open(&bench, "trtype:PCIe traddr:0000:00:03.6");
	for (uint32_t number = 0; number < 50; number++) {
		fake_set(bench.drive, FAKE_EVENT, 1000 + number);
	}
	CHECK_EQ(fs_ctrlr_events(bench.ctrlr, events, 64), 0);
	CHECK_EQ(fs_ctrlr_poll(bench.ctrlr), 0);
	CHECK_EQ(fs_ctrlr_events(bench.ctrlr, events, 10), 10);
	CHECK(events[0] == 1000 && events[9] == 1009);
	CHECK_EQ(fs_ctrlr_events(bench.ctrlr, events, 64), 22);
	CHECK(events[0] == 1010 && events[21] == 1031);
	CHECK_EQ(fs_ctrlr_events(bench.ctrlr, events, 64), 0);
	bench_close(&bench);
}

static void
a_controller_that_is_not_there_is_not_attached(void)
{
	struct fs_ctrlr_options options = { 0 };
	struct fs_ctrlr *ctrlr = NULL;
	char text[4096];

	bench_start();
	fs_log_take(text, sizeof(text));
	CHECK_EQ(fs_ctrlr_attach("trtype:PCIe traddr:missing", &options, &ctrlr), -ENODEV);
	CHECK(ctrlr == NULL);
	CHECK(fs_log_take(text, sizeof(text)) > 0 && strstr(text, "no such controller") != NULL);
	CHECK_EQ(fs_ctrlr_attach("nonsense", &options, &ctrlr), -EINVAL);
	fs_ctrlr_detach(NULL);
}

static const struct test_case cases[] = {
	{ "silence_ends_when_the_controller_is_given_up", silence_ends_when_the_controller_is_given_up },
	{ "a_silent_controller_is_given_up_by_close_and_free", a_silent_controller_is_given_up_by_close_and_free },
	{ "a_connection_that_ends_gives_everything_back", a_connection_that_ends_gives_everything_back },
	{ "a_connection_that_ends_is_cleaned_up_by_free_alone", a_connection_that_ends_is_cleaned_up_by_free_alone },
	{ "an_answer_after_the_timeout_finds_no_freed_memory", an_answer_after_the_timeout_finds_no_freed_memory },
	{ "a_timeout_is_told_once_a_command_and_can_abort", a_timeout_is_told_once_a_command_and_can_abort },
	{ "an_abort_that_fails_is_counted", an_abort_that_fails_is_counted },
	{ "an_abort_that_is_never_answered_outlives_nothing", an_abort_that_is_never_answered_outlives_nothing },
	{ "timeouts_ask_for_resets_and_ends", timeouts_ask_for_resets_and_ends },
	{ "events_are_kept_in_order_and_an_overflow_loses_the_newest",
	  events_are_kept_in_order_and_an_overflow_loses_the_newest },
	{ "a_controller_that_is_not_there_is_not_attached", a_controller_that_is_not_there_is_not_attached },
};

BENCH_MAIN(cases)
