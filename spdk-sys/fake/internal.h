/* What the parts of the made-up SPDK share. */
#ifndef FIO_SPDK_FAKE_INTERNAL_H
#define FIO_SPDK_FAKE_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "spdk/nvme.h"

#include "fake.h"

enum {
	MOST_NAMESPACES = 4,
	MOST_ADMIN = 64,
	/* SCT in bits 8 to 10, as in `fs_done`. */
	INVALID_OPCODE = 0x001,
	INVALID_FIELD = 0x002,
	ABORTED_BY_REQUEST = 0x007,
	ABORTED_QUEUE_DELETED = 0x008,
	INVALID_NAMESPACE = 0x00b,
	LBA_OUT_OF_RANGE = 0x080,
	INVALID_LOG_PAGE = 0x109,
	/* Command Size Limits Exceeded. */
	SIZE_LIMIT_EXCEEDED = 0x183,
	UNRECOVERED_READ = 0x281,
	GUARD_CHECK = 0x282,
	APPTAG_CHECK = 0x283,
	REFTAG_CHECK = 0x284,
	COMPARE_FAILURE = 0x285,
};

enum command_kind {
	READ,
	WRITE,
	COMPARE,
	VERIFY,
	WRITE_ZEROES,
	WRITE_UNCORRECTABLE,
	DEALLOCATE,
	FLUSH,
};

struct shape {
	uint32_t lba_bytes;
	uint32_t metadata_bytes;
	uint32_t pi_type;
	bool extended;
	bool pi_first;
	uint64_t blocks;
	uint32_t namespaces;
	uint32_t queues;
	uint32_t entries;
	uint32_t max_transfer;
	uint32_t stripe_blocks;
	uint32_t atomic_blocks;
	uint32_t deallocated;
	bool volatile_cache;
	/* Ranges of a deallocate at most; 0 where it does not say. */
	uint32_t most_ranges;
};

struct store {
	uint8_t *data;
	uint8_t *metadata;
	/* A byte an LBA: 1 where it was made uncorrectable. */
	uint8_t *bad;
	bool removed;
};

struct fake_drive {
	struct fake_drive *next;
	char name[640];
	/* The directory that keeps it, or empty. */
	char folder[300];
	char serial[21];
	struct shape shape;
	struct store stores[MOST_NAMESPACES];
	struct spdk_nvme_ctrlr_data identify;
	struct spdk_nvme_ns_data identify_ns;
	uint32_t cache_feature;
	uint64_t knobs[FAKE_KNOBS];
	struct spdk_nvme_ctrlr *ctrlrs;
	/* Of everything behind the drive. Taken again by functions that callbacks call. */
	pthread_mutex_t lock;
};

struct command {
	enum command_kind kind;
	uint32_t nsid;
	uint64_t lba;
	uint32_t blocks;
	uint8_t *data;
	uint8_t *metadata;
	uint32_t flags;
	uint16_t apptag_mask;
	uint16_t apptag;
	/* Of a deallocate. */
	uint32_t ranges;
};

struct request {
	struct command command;
	spdk_nvme_cmd_cb done;
	void *arg;
	uint64_t submitted_us;
	/* Requests of the pool that it takes: one, and one for each piece if it is split. */
	uint32_t cost;
	/* Its end is decided: 0, or a status and bit 15. */
	uint16_t forced;
	bool busy;
	bool visible;
	bool stuck;
	bool timed_out;
};

struct spdk_nvme_ns {
	struct spdk_nvme_ctrlr *ctrlr;
	uint32_t nsid;
};

struct admin {
	struct spdk_nvme_cmd cmd;
	uint8_t *data;
	uint32_t len;
	spdk_nvme_cmd_cb done;
	void *arg;
	/* To be aborted, or NULL. */
	struct spdk_nvme_qpair *victim;
	uint16_t victim_cid;
};

struct spdk_nvme_ctrlr {
	struct spdk_nvme_ctrlr *next;
	struct fake_drive *drive;
	struct spdk_nvme_ctrlr_opts opts;
	struct spdk_nvme_ns namespaces[MOST_NAMESPACES];
	struct spdk_nvme_qpair *pairs;
	uint32_t pair_count;
	bool failed;
	bool resetting;
	struct admin admin[MOST_ADMIN];
	uint32_t admin_count;
	uint32_t events[64];
	uint32_t event_count;
	spdk_nvme_aer_cb aer;
	void *aer_arg;
	spdk_nvme_timeout_cb timed_out;
	void *timed_out_arg;
	uint64_t timeout_us;
};

struct spdk_nvme_qpair {
	struct spdk_nvme_qpair *next;
	struct spdk_nvme_ctrlr *ctrlr;
	uint32_t entries;
	uint32_t requests;
	uint32_t free_requests;
	bool delays;
	bool connected;
	/* Odd numbers for the order of completions. */
	uint32_t dice;
	struct request *slots;
	/* Indices of busy slots, in the order of submission, and of free ones. */
	uint32_t *order;
	uint32_t count;
	uint32_t *free;
	uint32_t free_count;
	/* Threads within a function of this queue pair. */
	int users;
};

static inline uint64_t
fake_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Runs a command; returns its status. */
uint16_t fake_execute(struct fake_drive *drive, const struct command *command);
/* Completes whatever is in flight with this status. */
void fake_complete_all(struct spdk_nvme_qpair *pair, uint16_t status);
/* Completes every admin command with this status. */
void fake_complete_admin(struct spdk_nvme_ctrlr *ctrlr, uint16_t status);
/* Calls back. */
void fake_call(spdk_nvme_cmd_cb done, void *arg, uint16_t cid, uint16_t status, uint32_t cdw0);
/* Puts another drive at the address, if a test has asked for it. Called with the drive's lock. */
void fake_swap_if_asked(struct fake_drive *drive);
/* A rule of SPDK's was broken. */
void fake_misuse(struct fake_drive *drive, const char *what);

#endif
