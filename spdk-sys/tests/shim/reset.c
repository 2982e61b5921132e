/* Resets on one thread while another uses a queue. */
#include <time.h>

#include "bench.h"

struct user {
	struct bench *bench;
	atomic_bool stop;
	/* How many I/Os came back, and how many of them were lost in a reset. */
	atomic_uint back;
	atomic_uint lost;
};

static void
count(struct user *user)
{
	uint32_t count;
	const struct fs_done *done = fs_queue_done(user->bench->queue, &count);

	for (uint32_t at = 0; at < count; at++) {
		/* Aborted, with the queue pair that is given back or before. */
		CHECK(done[at].status == 0 || done[at].status == 0x07 || done[at].status == 0x08);
		user->bench->times[done[at].tag]++;
		atomic_fetch_add(&user->lost, done[at].status != 0);
	}
	atomic_fetch_add(&user->back, count);
	fs_queue_consume(user->bench->queue, count);
}

/* Keeps the queue full until it is told to stop, then takes all back. */
static void *
use(void *arg)
{
	struct user *user = arg;
	struct bench *bench = user->bench;
	uint32_t submitted[MOST_DEPTH] = { 0 };

	while (!atomic_load(&user->stop) || fs_queue_in_flight(bench->queue) > 0) {
		for (uint32_t tag = 0; tag < bench->options.depth && !atomic_load(&user->stop); tag++) {
			int rc;

			if (submitted[tag] != bench->times[tag]) {
				continue;
			}
			rc = bench_submit(bench, FS_OP_READ, tag, tag);
			CHECK(rc == 0 || rc == -EAGAIN);
			submitted[tag] += rc == 0;
		}
		CHECK(fs_queue_poll(bench->queue, 0) >= 0);
		count(user);
	}
	for (uint32_t tag = 0; tag < bench->options.depth; tag++) {
		CHECK_EQ(submitted[tag], bench->times[tag]);
	}
	return NULL;
}

static void
until_back(struct user *user, uint32_t more)
{
	uint32_t wanted = atomic_load(&user->back) + more;

	while (atomic_load(&user->back) < wanted) {
		usleep(100);
	}
}

static void
a_reset_loses_what_is_in_flight_and_the_queue_goes_on(void)
{
	struct bench bench = { .options.depth = 64 };
	struct user user = { .bench = &bench };
	pthread_t thread;

	bench_open(&bench, "trtype:PCIe traddr:0000:00:04.0");
	fake_set(bench.drive, FAKE_RESET_US, 3000);
	CHECK_EQ(pthread_create(&thread, NULL, use, &user), 0);
	for (uint32_t reset = 0; reset < 20; reset++) {
		until_back(&user, 100);
		/* Without this, a thread that was just put aside may have nothing in flight. */
		fake_set(bench.drive, FAKE_HOLD, 1);
		while (fake_get(bench.drive, FAKE_OUTSTANDING) == 0) {
			usleep(100);
		}
		CHECK_EQ(fs_ctrlr_reset(bench.ctrlr), 0);
		fake_set(bench.drive, FAKE_HOLD, 0);
	}
	until_back(&user, 100);
	atomic_store(&user.stop, true);
	pthread_join(thread, NULL);
	CHECK_EQ(fake_get(bench.drive, FAKE_RESETS), 20);
	CHECK(atomic_load(&user.lost) > 0);
	CHECK_EQ(fs_queue_strays(bench.queue), 0);
	bench_close(&bench);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* One after the other, before the queue has seen the end of the first. */
static void
resets_in_a_row_do_not_wait_for_what_is_parked(void)
{
	struct bench bench = { .options.depth = 8 };
	struct user user = { .bench = &bench };
	pthread_t thread;
	double began;

	bench_open(&bench, "trtype:PCIe traddr:0000:00:04.1");
	CHECK_EQ(pthread_create(&thread, NULL, use, &user), 0);
	until_back(&user, 10);
	began = seconds();
	for (uint32_t reset = 0; reset < 500; reset++) {
		CHECK_EQ(fs_ctrlr_reset(bench.ctrlr), 0);
	}
	/* A single wait for a queue that had parked already takes two seconds. */
	CHECK(seconds() - began < 240);
	atomic_store(&user.stop, true);
	pthread_join(thread, NULL);
	bench_close(&bench);
}

static void
a_queue_that_nobody_polls_does_not_stop_a_reset(void)
{
	struct bench bench = { .options.depth = 8 };

	bench_open(&bench, "trtype:PCIe traddr:0000:00:04.2");
	bench_fill(&bench);
	CHECK_EQ(fs_ctrlr_reset(bench.ctrlr), 0);
	bench_await(&bench, 8);
	bench_all_once(&bench);
	CHECK_EQ(bench.status[0], 0x07);
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 0), 0);
	bench_close(&bench);
}

static void
a_reset_that_fails_is_the_end(void)
{
	struct bench bench = { .options.depth = 8 };
	struct fs_ctrlr_health health;

	bench_open(&bench, "trtype:PCIe traddr:0000:00:04.3");
	bench_fill(&bench);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), 0);
	fake_set(bench.drive, FAKE_RESET_FAILS, 1);
	CHECK(fs_ctrlr_reset(bench.ctrlr) != 0);
	fs_ctrlr_health(bench.ctrlr, &health);
	CHECK(health.failed);
	CHECK_EQ(fs_queue_poll(bench.queue, 0), -ENXIO);
	CHECK_EQ(bench_submit(&bench, FS_OP_READ, 0, 0), -ENXIO);
	fs_queue_close(bench.queue);
	bench_take(&bench);
	bench_all_once(&bench);
	bench_close(&bench);
}

static void *
reset(void *arg)
{
	struct bench *bench = arg;

	CHECK_EQ(fs_ctrlr_reset(bench->ctrlr), 0);
	return NULL;
}

static void
a_queue_is_closed_before_a_reset_or_after_it(void)
{
	struct bench bench = { .options.depth = 8 };
	pthread_t thread;

	bench_open(&bench, "trtype:PCIe traddr:0000:00:04.4");
	fake_set(bench.drive, FAKE_RESET_US, 200000);
	bench_fill(&bench);
	CHECK_EQ(pthread_create(&thread, NULL, reset, &bench), 0);
	/* The reset waits for this poll, and is under way when the queue is closed. */
	usleep(20000);
	CHECK(fs_queue_poll(bench.queue, 0) >= 0);
	usleep(20000);
	fs_queue_close(bench.queue);
	bench_take(&bench);
	bench_all_once(&bench);
	pthread_join(thread, NULL);
	bench_close(&bench);
}

static const struct test_case cases[] = {
	{ "a_reset_loses_what_is_in_flight_and_the_queue_goes_on",
	  a_reset_loses_what_is_in_flight_and_the_queue_goes_on },
	{ "resets_in_a_row_do_not_wait_for_what_is_parked", resets_in_a_row_do_not_wait_for_what_is_parked },
	{ "a_queue_that_nobody_polls_does_not_stop_a_reset", a_queue_that_nobody_polls_does_not_stop_a_reset },
	{ "a_reset_that_fails_is_the_end", a_reset_that_fails_is_the_end },
	{ "a_queue_is_closed_before_a_reset_or_after_it", a_queue_is_closed_before_a_reset_or_after_it },
};

BENCH_MAIN(cases)
