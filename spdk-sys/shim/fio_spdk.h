/*
 * SPDK's NVMe driver as fio-spdk needs it: opaque handles and integers of fixed width.
 *
 * This header alone is what Rust sees; no type of SPDK's is in it, so that versions of SPDK whose
 * structures differ need the shim compiled anew and nothing else. Completions are no callbacks here:
 * they are appended to an array that the caller reads.
 *
 * Unless said otherwise functions return 0 or a negative errno. A controller may be used by several
 * threads; a queue belongs to the thread that made it.
 */
#ifndef FIO_SPDK_H
#define FIO_SPDK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The environment: hugepages, PCI. Once a process. */

struct fs_env_options {
	/* Cores as DPDK lists them, "[0]". */
	const char *core_mask;
	/* A hugetlbfs mount, or NULL for any. */
	const char *huge_dir;
	/* "pa", "va", or NULL for DPDK's choice. */
	const char *iova_mode;
	/* MiB of hugepages, or -1 for as many as are needed. */
	int32_t mem_size_mb;
	/* Hugepages in one file, which vfio-user needs. */
	bool single_segment;
	/* No PCI device will be used. */
	bool no_pci;
	/* Ordinary memory instead of hugepages: enough for TCP. */
	bool no_huge;
};

/* The version whose headers the shim was compiled with, "SPDK v24.01" for instance. */
const char *fs_version(void);
/* What SPDK and DPDK said at their start, with the versions that run; empty before. */
const char *fs_version_running(void);
/* Initialises SPDK on the calling thread, which DPDK binds to the core chosen. */
int fs_env_init(const struct fs_env_options *options);
/* Gives the environment back. */
void fs_env_fini(void);
/* Lets the calling thread run on any CPU again. */
void fs_unaffinitize(void);
/* Moves what SPDK logged since the last call into `text`, oldest first, one message a line, ended by
 * NUL; returns its length. What does not fit is dropped. */
size_t fs_log_take(char *text, size_t size);

/* Memory that devices can reach: zeroed, in hugepages. NULL if there is not enough. */
void *fs_dma_alloc(size_t size, size_t align);
void fs_dma_free(void *memory);

/* Controllers. */

struct fs_ctrlr;

struct fs_ctrlr_options {
	/* Host NQN, or NULL for SPDK's. */
	const char *hostnqn;
	/* 0 for SPDK's default. */
	uint32_t num_io_queues;
	uint32_t keep_alive_timeout_ms;
	/* Timeout of I/O commands in microseconds; 0 for none. */
	uint64_t command_timeout_us;
	/* One of FS_TIMEOUT_*. */
	uint32_t timeout_action;
	bool use_cmb_sqs;
	bool enable_wrr;
	/* As a power of two; 7 for no limit. */
	uint8_t arbitration_burst;
	/* Weights, 0's based. */
	uint8_t low_weight;
	uint8_t medium_weight;
	uint8_t high_weight;
	bool header_digest;
	bool data_digest;
};

enum {
	FS_TIMEOUT_NONE = 0,
	FS_TIMEOUT_ABORT = 1,
	/* Both are asked for by `fs_ctrlr_health` and done by the caller. */
	FS_TIMEOUT_RESET = 2,
	FS_TIMEOUT_FAIL = 3,
};

/* Attaches the controller that an SPDK transport id names. -EINVAL: not a transport id; -ENODEV: no
 * such controller, or it does not come up (see the log). */
int fs_ctrlr_attach(const char *transport_id, const struct fs_ctrlr_options *options,
		    struct fs_ctrlr **ctrlr);
/* Detaches it, with a shutdown notification. No queue may be left. */
void fs_ctrlr_detach(struct fs_ctrlr *ctrlr);

enum {
	FS_TRANSPORT_PCIE = 0,
	FS_TRANSPORT_VFIOUSER = 1,
	FS_TRANSPORT_TCP = 2,
	FS_TRANSPORT_RDMA = 3,
	FS_TRANSPORT_OTHER = 4,
};

struct fs_ctrlr_info {
	/* One of FS_TRANSPORT_*. */
	uint32_t transport;
	/* Largest transfer of one command, in bytes; longer I/O is split. */
	uint32_t max_transfer_bytes;
	uint32_t max_queue_entries;
	uint32_t num_io_queues;
	uint32_t namespaces;
	bool sgl;
	bool wrr;
	bool cmb_sqs;
};

void fs_ctrlr_info(struct fs_ctrlr *ctrlr, struct fs_ctrlr_info *info);
/* Identify Controller as the device gave it: 4096 bytes. */
void fs_ctrlr_identify(struct fs_ctrlr *ctrlr, uint8_t *data);
/* Identify Namespace: 4096 bytes. -ENOENT: there is none, or it is not active. */
int fs_ns_identify(struct fs_ctrlr *ctrlr, uint32_t nsid, uint8_t *data);

struct fs_ns_info {
	uint64_t blocks;
	/* Data of one LBA in bytes, without metadata. */
	uint32_t lba_bytes;
	uint32_t metadata_bytes;
	/* Type of protection information, 0 to 3. */
	uint32_t pi_type;
	/* SPDK sends no command across multiples of so many blocks (NOIOB, or the stripes of Intel's first
	 * drives); 0: it does. */
	uint32_t stripe_blocks;
	/* Metadata follows the data of each LBA, instead of lying in a buffer of its own. */
	bool extended;
	/* Protection information is in the first bytes of the metadata, not the last. */
	bool pi_first;
};

int fs_ns_info(struct fs_ctrlr *ctrlr, uint32_t nsid, struct fs_ns_info *info);

/* Runs one admin command to its end. `command` has 64 bytes; `data` is copied in and out as the
 * direction says. -ETIMEDOUT: no answer in time; -ENXIO: the controller is dead. */
enum {
	FS_DIR_NONE = 0,
	FS_DIR_FROM_DEVICE = 1,
	FS_DIR_TO_DEVICE = 2,
};
int fs_ctrlr_admin(struct fs_ctrlr *ctrlr, const uint8_t *command, uint8_t *data, uint32_t len,
		   uint32_t direction, uint64_t timeout_us, uint32_t *cdw0, uint16_t *status);

/* Polls admin completions, events and keep-alives. -ENXIO: the controller is dead. */
int fs_ctrlr_poll(struct fs_ctrlr *ctrlr);

struct fs_ctrlr_health {
	/* The CSTS register; 0xffffffff where nobody answers. 0 for fabrics, which are not asked. */
	uint32_t csts;
	/* I/O commands that took longer than the timeout. */
	uint64_t timeouts;
	/* Commands that were aborted for it, and that could not be. */
	uint64_t aborts;
	uint64_t failed_aborts;
	/* A timeout asks for a reset, or for the end. */
	bool wants_reset;
	bool wants_fail;
	/* Given up, by SPDK or by `fs_ctrlr_fail`. */
	bool failed;
	/* After a reset another drive or namespace was at the address; `failed` is set too. */
	bool replaced;
};

void fs_ctrlr_health(struct fs_ctrlr *ctrlr, struct fs_ctrlr_health *health);
/* Moves up to `max` event dwords (NVMe Base 2.0, figure 146) into `events`; returns how many. */
uint32_t fs_ctrlr_events(struct fs_ctrlr *ctrlr, uint32_t *events, uint32_t max);
/* Gives the controller up: queues report its death from now on. */
void fs_ctrlr_fail(struct fs_ctrlr *ctrlr);
/* Resets it and brings it up again. Its queues lose what is in flight. -ESTALE: another drive answers at
 * the address (serial number or model differ); the controller is given up, and nothing is sent to it. */
int fs_ctrlr_reset(struct fs_ctrlr *ctrlr);

/* Queues. */

struct fs_queue;

struct fs_queue_options {
	/* I/Os in flight at most. */
	uint32_t depth;
	/* 0 for the default, in both. */
	uint32_t io_queue_size;
	uint32_t io_queue_requests;
	/* 0 urgent, 1 high, 2 medium, 3 low; only with weighted round robin. */
	uint32_t priority;
	bool delay_cmd_submit;
	/* Carried by reads and writes: FS_FLAG_*. */
	uint32_t read_flags;
	uint32_t write_flags;
	uint16_t apptag;
	uint16_t apptag_mask;
	/* The largest I/O in bytes: what buffers for metadata are made for. */
	uint32_t largest_io;
};

enum {
	FS_FLAG_FUA = 1 << 0,
	FS_FLAG_PRACT = 1 << 1,
	FS_FLAG_PRCHK_GUARD = 1 << 2,
	FS_FLAG_PRCHK_APPTAG = 1 << 3,
	FS_FLAG_PRCHK_REFTAG = 1 << 4,
};

enum {
	FS_OP_READ = 0,
	FS_OP_WRITE = 1,
	FS_OP_DEALLOCATE = 2,
	FS_OP_FLUSH = 3,
	FS_OP_WRITE_ZEROES = 4,
	FS_OP_WRITE_UNCORRECTABLE = 5,
	FS_OP_VERIFY = 6,
	FS_OP_COMPARE = 7,
	/* Of several ranges: the buffer holds so many as `blocks` says, as the device reads them (Dataset
	 * Management, NVM Command Set 1.0, 3.2.3); `lba` means nothing. */
	FS_OP_DEALLOCATE_RANGES = 8,
};

struct fs_done {
	/* The I/O's. */
	uint32_t tag;
	/* Status field of the completion without its phase bit: SC in bits 0 to 7, SCT in 8 to 10, DNR in
	 * bit 14 (NVMe Base 2.0, figure 93). */
	uint16_t status;
	uint16_t reserved;
};

/* A queue without targets. NULL: no memory. */
struct fs_queue *fs_queue_new(const struct fs_queue_options *options);
/* Adds a namespace, with a queue pair of its own, as the next target. -ENOENT: no such namespace;
 * -ENOMEM; -EAGAIN: the controller has no queue left; -ENXIO: it is dead. */
int fs_queue_add(struct fs_queue *queue, struct fs_ctrlr *ctrlr, uint32_t nsid);
/* Entries that the queue pair of a target really has. */
uint32_t fs_queue_entries(struct fs_queue *queue, uint32_t target);

/* Submits one I/O. `tag` is below the depth and not in flight. -EAGAIN: the queue is full; -ENXIO: it
 * is dead; any other: this I/O is refused and not in flight. */
int fs_queue_submit(struct fs_queue *queue, uint32_t op, uint32_t target, void *buffer, uint64_t lba,
		    uint32_t blocks, uint32_t tag);
/* Rings the doorbells and takes completions: about `max` a queue pair, which may be exceeded; the array
 * has room for all. Returns how many are in the array, or a negative errno where a queue pair is dead
 * (the array is valid then too). A queue pair whose controller is reset is not dead: it is made again
 * when that is over, and what it had in flight comes back as aborted. */
int32_t fs_queue_poll(struct fs_queue *queue, uint32_t max);
/* The completions that have not been consumed, oldest first. */
const struct fs_done *fs_queue_done(const struct fs_queue *queue, uint32_t *count);
/* Drops the first `count` of them; their tags may be used again. */
void fs_queue_consume(struct fs_queue *queue, uint32_t count);
/* Commands in flight as the shim counts them. */
uint32_t fs_queue_in_flight(const struct fs_queue *queue);
/* Completions of I/Os that were not in flight: a fault of driver or device, counted and dropped. */
uint64_t fs_queue_strays(const struct fs_queue *queue);
/* Frees the queue pairs: what is in flight completes into the array. A controller that does not answer
 * is given up for it, or SPDK would wait for ever. */
void fs_queue_close(struct fs_queue *queue);
/* Frees the rest; the queue is closed first where that has not been done. */
void fs_queue_free(struct fs_queue *queue);

#endif
