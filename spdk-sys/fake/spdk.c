/* The made-up SPDK's environment, log and memory. */
#include <stdarg.h>

#include "internal.h"
#include "spdk/crc16.h"
#include "spdk/env.h"
#include "spdk/log.h"
#include "spdk/version.h"

static logfunc *g_log;

__attribute__((format(printf, 2, 3))) static void
say(int level, const char *format, ...)
{
	va_list args;

	if (g_log == NULL) {
		return;
	}
	va_start(args, format);
	g_log(level, NULL, -1, NULL, format, args);
	va_end(args);
}

void
fake_log(int level, const char *text)
{
	say(level, "%s\n", text);
}

void
spdk_log_open(logfunc *logf)
{
	g_log = logf;
}

void
spdk_env_opts_init(struct spdk_env_opts *opts)
{
	memset(opts, 0, sizeof(*opts));
	opts->mem_size = -1;
}

int
spdk_env_init(const struct spdk_env_opts *opts)
{
	if (opts->core_mask == NULL || opts->name == NULL) {
		return -EINVAL;
	}
	/* SPDK introduces itself at this level. */
	say(SPDK_LOG_NOTICE, "Starting %s / no DPDK initialization...\n", SPDK_VERSION_STRING);
	return 0;
}

void
spdk_env_fini(void)
{
}

void
spdk_unaffinitize_thread(void)
{
}

void *
spdk_dma_zmalloc(size_t size, size_t align, uint64_t *unused)
{
	void *memory = NULL;

	(void)unused;
	if (size == 0 || posix_memalign(&memory, align < sizeof(void *) ? sizeof(void *) : align, size) != 0) {
		return NULL;
	}
	return memset(memory, 0, size);
}

void
spdk_dma_free(void *memory)
{
	free(memory);
}

/* Bit by bit, polynomial 8BB7h (T10 SBC-4). */
uint16_t
spdk_crc16_t10dif(uint16_t init_crc, const void *buf, size_t len)
{
	const uint8_t *bytes = buf;
	uint16_t crc = init_crc;

	for (size_t at = 0; at < len; at++) {
		crc ^= (uint16_t)(bytes[at] << 8);
		for (int bit = 0; bit < 8; bit++) {
			crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x8bb7 : crc << 1);
		}
	}
	return crc;
}
