/* What the shim uses of SPDK's environment. */
#ifndef SPDK_ENV_H
#define SPDK_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spdk_env_opts {
	const char *name;
	const char *core_mask;
	int mem_size;
	bool no_pci;
	bool no_huge;
	bool hugepage_single_segments;
	const char *hugedir;
	const char *iova_mode;
};

void spdk_env_opts_init(struct spdk_env_opts *opts);
int spdk_env_init(const struct spdk_env_opts *opts);
void spdk_env_fini(void);
void spdk_unaffinitize_thread(void);
void *spdk_dma_zmalloc(size_t size, size_t align, uint64_t *unused);
void spdk_dma_free(void *memory);

#endif
