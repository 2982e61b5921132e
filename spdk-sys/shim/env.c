/* Environment, log and memory. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"
#include "spdk/log.h"

enum { LOG_BYTES = 16 * 1024, LINE_BYTES = 512, NO_HUGE_MB = 512 };

static pthread_mutex_t g_log_lock = PTHREAD_MUTEX_INITIALIZER;
static char g_log[LOG_BYTES];
static size_t g_log_len;
static char g_running[LINE_BYTES];

static void
keep(const char *line, size_t len)
{
	if (g_log_len + len <= sizeof(g_log)) {
		memcpy(g_log + g_log_len, line, len);
		g_log_len += len;
	}
}

/* SPDK's log: what matters is kept for whoever asks, nothing is printed. */
static void
log_line(int level, const char *file, const int line, const char *func, const char *format, va_list args)
{
	char text[LINE_BYTES];
	int len;

	(void)file;
	(void)line;
	(void)func;
	if (level > SPDK_LOG_NOTICE) {
		return;
	}
	len = vsnprintf(text, sizeof(text) - 1, format, args);
	if (len <= 0) {
		return;
	}
	if ((size_t)len > sizeof(text) - 2) {
		len = sizeof(text) - 2;
	}
	if (text[len - 1] != '\n') {
		text[len++] = '\n';
	}
	text[len] = '\0';
	pthread_mutex_lock(&g_log_lock);
	if (strncmp(text, "Starting ", 9) == 0) {
		/* What SPDK says of itself at its start, as a notice. */
		memcpy(g_running, text, (size_t)len);
		g_running[len - 1] = '\0';
	} else if (level <= SPDK_LOG_WARN) {
		keep(text, (size_t)len);
	}
	pthread_mutex_unlock(&g_log_lock);
}

size_t
fs_log_take(char *text, size_t size)
{
	size_t len;

	if (size == 0) {
		return 0;
	}
	pthread_mutex_lock(&g_log_lock);
	len = g_log_len < size - 1 ? g_log_len : size - 1;
	memcpy(text, g_log, len);
	text[len] = '\0';
	g_log_len = 0;
	pthread_mutex_unlock(&g_log_lock);
	return len;
}

const char *
fs_version(void)
{
	return SPDK_VERSION_STRING;
}

const char *
fs_version_running(void)
{
	return g_running;
}

int
fs_env_init(const struct fs_env_options *options)
{
	struct spdk_env_opts opts;

	spdk_log_open(log_line);
	memset(&opts, 0, sizeof(opts));
#if SPDK_VERSION >= SPDK_VERSION_NUM(24, 9, 0)
	opts.opts_size = sizeof(opts);
#endif
	spdk_env_opts_init(&opts);
	opts.name = "fio-spdk";
	opts.core_mask = options->core_mask;
	opts.mem_size = options->mem_size_mb;
	opts.hugepage_single_segments = options->single_segment;
	opts.no_pci = options->no_pci;
	opts.no_huge = options->no_huge;
	if (options->no_huge && options->mem_size_mb < 0) {
		/* Such memory does not grow. */
		opts.mem_size = NO_HUGE_MB;
	}
	if (options->huge_dir != NULL) {
		opts.hugedir = options->huge_dir;
	}
	if (options->iova_mode != NULL) {
		opts.iova_mode = options->iova_mode;
	}
	return spdk_env_init(&opts);
}

void
fs_env_fini(void)
{
	spdk_env_fini();
}

void
fs_unaffinitize(void)
{
	spdk_unaffinitize_thread();
}

void *
fs_dma_alloc(size_t size, size_t align)
{
	return spdk_dma_zmalloc(size, align, NULL);
}

void
fs_dma_free(void *memory)
{
	spdk_dma_free(memory);
}
