/* What the parts of the shim share. */
#ifndef FIO_SPDK_INTERNAL_H
#define FIO_SPDK_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "spdk/env.h"
#include "spdk/nvme.h"
#include "spdk/version.h"

#include "fio_spdk.h"

enum {
	FS_MAX_EVENTS = 32,
	/* Serial number and model in Identify Controller (NVMe Base 2.0, figure 275). */
	FS_IDENTITY_AT = 4,
	FS_IDENTITY_BYTES = 60,
};

struct fs_ctrlr {
	struct spdk_nvme_ctrlr *spdk;
	uint32_t transport;
	uint32_t timeout_action;
	atomic_uint_fast64_t timeouts;
	atomic_uint_fast64_t aborts;
	atomic_uint_fast64_t failed_aborts;
	atomic_bool wants_reset;
	atomic_bool wants_fail;
	/* Counts the beginnings and the ends of resets: while it is odd, queue pairs are left alone. */
	atomic_uint epoch;
	/* One reset at a time. */
	atomic_bool resetting;
	/* Queue pairs, and those whose threads have seen that they are to be left alone: the latter in the
	 * lower half, with the epoch that they have seen in the upper. */
	atomic_uint pairs;
	atomic_uint_fast64_t parked;
	atomic_bool failed;
	/* Serial number and model when it was attached. */
	uint8_t identity[FS_IDENTITY_BYTES];
	/* After a reset another drive or namespace answered: it has been given up. */
	atomic_bool replaced;
	pthread_mutex_t events_lock;
	uint32_t events[FS_MAX_EVENTS];
	uint32_t event_count;
};

/* What tells a namespace from another of the same number: size, NGUID and EUI64 (NVM Command Set 1.0,
 * figure 97). */
struct fs_ns_identity {
	uint8_t bytes[8 + 16 + 8];
};

/* Zeros where there is no active namespace. */
struct fs_ns_identity fs_identity_of(struct fs_ctrlr *ctrlr, uint32_t nsid);
/* Whether a reset has brought up another namespace than `before`. One that is gone takes no command by
 * itself. */
bool fs_is_other_namespace(struct fs_ctrlr *ctrlr, uint32_t nsid, const struct fs_ns_identity *before);
/* Whether the controller answers an admin command. Asked before SPDK waits for one without a limit. */
bool fs_ctrlr_answers(struct fs_ctrlr *ctrlr);

static inline bool
fs_is_fabric(const struct fs_ctrlr *ctrlr)
{
	return ctrlr->transport == FS_TRANSPORT_TCP || ctrlr->transport == FS_TRANSPORT_RDMA;
}

#endif
