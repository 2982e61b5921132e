#ifndef SPDK_LIKELY_H
#define SPDK_LIKELY_H

#define spdk_likely(condition) __builtin_expect((condition) != 0, 1)
#define spdk_unlikely(condition) __builtin_expect((condition) != 0, 0)

#endif
