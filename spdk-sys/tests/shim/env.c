/* The environment, and SPDK's log. */
#include "bench.h"

static void
the_version_that_runs_is_known(void)
{
	CHECK(fs_version_running()[0] == '\0');
	bench_start();
	CHECK(strncmp(fs_version_running(), "Starting SPDK v24.01-fake", 25) == 0);
	CHECK(strstr(fs_version_running(), fs_version()) != NULL);
	CHECK(strchr(fs_version_running(), '\n') == NULL);
	fs_unaffinitize();
	fs_env_fini();
}

static void
the_log_keeps_warnings_and_errors_in_order(void)
{
	char text[256];

	bench_start();
	fake_log(2, "a notice");
	fake_log(1, "a warning");
	fake_log(0, "an error");
	fake_log(4, "for debugging");
	CHECK_EQ(fs_log_take(text, sizeof(text)), 19);
	CHECK(strcmp(text, "a warning\nan error\n") == 0);
	CHECK_EQ(fs_log_take(text, sizeof(text)), 0);
	CHECK_EQ(fs_log_take(text, 0), 0);
}

static void
long_lines_and_long_logs_are_cut(void)
{
	static char text[1 << 17], line[4096];
	size_t len;

	bench_start();
	memset(line, 'x', sizeof(line) - 1);
	fake_log(0, line);
	len = fs_log_take(text, sizeof(text));
	CHECK(len > 100 && len < 4096 && text[len - 1] == '\n' && text[len] == '\0' && strchr(text, '\n') == text + len - 1);
	for (uint32_t number = 0; number < 10000; number++) {
		snprintf(line, sizeof(line), "line %u", number);
		fake_log(0, line);
	}
	len = fs_log_take(text, sizeof(text));
	CHECK(len > 10000 && len < sizeof(text) && strncmp(text, "line 0\nline 1\n", 14) == 0);
	CHECK_EQ(text[len - 1], '\n');
	/* What does not fit is dropped. */
	fake_log(0, "0123456789");
	CHECK_EQ(fs_log_take(text, 5), 4);
	CHECK(strcmp(text, "0123") == 0);
	CHECK_EQ(fs_log_take(text, sizeof(text)), 0);
}

static void
memory_is_zeroed_and_aligned(void)
{
	uint8_t *memory;

	bench_start();
	memory = fs_dma_alloc(10000, 4096);
	CHECK(memory != NULL && (uintptr_t)memory % 4096 == 0 && memory[0] == 0 && memory[9999] == 0);
	fs_dma_free(memory);
	fs_dma_free(NULL);
}

static const struct test_case cases[] = {
	{ "the_version_that_runs_is_known", the_version_that_runs_is_known },
	{ "the_log_keeps_warnings_and_errors_in_order", the_log_keeps_warnings_and_errors_in_order },
	{ "long_lines_and_long_logs_are_cut", long_lines_and_long_logs_are_cut },
	{ "memory_is_zeroed_and_aligned", memory_is_zeroed_and_aligned },
};

BENCH_MAIN(cases)
