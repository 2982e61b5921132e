/* The version that the made-up SPDK says it is. */
#ifndef SPDK_VERSION_H
#define SPDK_VERSION_H

#define SPDK_VERSION_MAJOR 24
#define SPDK_VERSION_MINOR 1
#define SPDK_VERSION_PATCH 0
#define SPDK_VERSION_NUM(major, minor, patch) ((major) * 10000 + (minor) * 100 + (patch))
#define SPDK_VERSION SPDK_VERSION_NUM(SPDK_VERSION_MAJOR, SPDK_VERSION_MINOR, SPDK_VERSION_PATCH)
#define SPDK_VERSION_STRING "SPDK v24.01-fake"

#endif
