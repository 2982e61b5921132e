/* Queues: the hot path. */
#include <unistd.h>

#include "internal.h"
#include "metadata.h"
#include "spdk/likely.h"

/* SPDK's own default. */
enum { DEFAULT_REQUESTS = 512, RESET_POLL_US = 100 };

struct fs_slot {
	struct fs_queue *queue;
	uint32_t tag;
	bool in_flight;
};

/* What is needed at the end of an I/O with metadata of the host's. */
struct fs_metadata_io {
	uint8_t *data;
	uint64_t lba;
	uint32_t blocks;
	uint32_t target;
	bool reads;
};

/* One target: a namespace and a queue pair. */
struct fs_path {
	struct fs_ctrlr *ctrlr;
	struct spdk_nvme_ns *ns;
	struct spdk_nvme_qpair *qpair;
	uint32_t read_flags;
	uint32_t write_flags;
	uint32_t nsid;
	uint32_t entries;
	/* Metadata of the host's: bytes an I/O, and where they are; 0 for none. */
	size_t metadata_bytes;
	uint8_t *metadata;
	struct fs_layout layout;
	struct fs_ns_identity identity;
	/* With which the queue pair was made. */
	struct spdk_nvme_io_qpair_opts opts;
	/* The controller's, as far as the queue pair has followed. */
	unsigned int epoch;
	/* Left alone for a reset, or of the time before one. */
	bool broken;
	bool dead;
	/* Any of these, metadata of the host's, or an application tag: the usual way is not for it. */
	bool unusual;
};

struct fs_queue {
	struct fs_queue_options options;
	uint32_t depth;
	uint32_t count;
	uint32_t in_flight;
	uint32_t path_count;
	struct fs_path *paths;
	struct fs_slot *slots;
	struct fs_done *done;
	struct spdk_nvme_dsm_range *ranges;
	/* By tag; NULL where no target has metadata of the host's. */
	struct fs_metadata_io *metadata_ios;
	uint64_t strays;
	bool closed;
};

static uint16_t
open_metadata(struct fs_queue *queue, uint32_t tag)
{
	struct fs_metadata_io *io = &queue->metadata_ios[tag];
	struct fs_path *path = &queue->paths[io->target];

	if (!io->reads) {
		return 0;
	}
	io->reads = false;
	return fs_metadata_open(&path->layout, path->metadata + tag * path->metadata_bytes, io->data, io->lba,
				io->blocks);
}

static inline void
append(struct fs_slot *slot, uint16_t status)
{
	struct fs_queue *queue = slot->queue;
	struct fs_done *done = &queue->done[queue->count++];

	slot->in_flight = false;
	queue->in_flight--;
	done->tag = slot->tag;
	done->status = status;
}

static void
completed(void *arg, const struct spdk_nvme_cpl *cpl)
{
	struct fs_slot *slot = arg;
	uint16_t status = cpl->status_raw >> 1;

	if (spdk_unlikely(!slot->in_flight)) {
		slot->queue->strays++;
		return;
	}
	if (spdk_unlikely(slot->queue->metadata_ios != NULL) && (status & 0x7ff) == 0) {
		status |= open_metadata(slot->queue, slot->tag);
	}
	append(slot, status);
}

struct fs_queue *
fs_queue_new(const struct fs_queue_options *options)
{
	struct fs_queue *queue = calloc(1, sizeof(*queue));
	uint32_t depth = options->depth;

	if (queue == NULL) {
		return NULL;
	}
	queue->options = *options;
	queue->depth = depth;
	queue->slots = calloc(depth, sizeof(*queue->slots));
	queue->done = calloc(depth, sizeof(*queue->done));
	queue->ranges = spdk_dma_zmalloc(depth * sizeof(*queue->ranges), 4096, NULL);
	if (queue->slots == NULL || queue->done == NULL || queue->ranges == NULL) {
		fs_queue_free(queue);
		return NULL;
	}
	for (uint32_t tag = 0; tag < depth; tag++) {
		queue->slots[tag].queue = queue;
		queue->slots[tag].tag = tag;
	}
	return queue;
}

static uint32_t
spdk_flags(uint32_t flags)
{
	uint32_t spdk = 0;

	spdk |= (flags & FS_FLAG_FUA) != 0 ? SPDK_NVME_IO_FLAGS_FORCE_UNIT_ACCESS : 0;
	spdk |= (flags & FS_FLAG_PRACT) != 0 ? SPDK_NVME_IO_FLAGS_PRACT : 0;
	spdk |= (flags & FS_FLAG_PRCHK_GUARD) != 0 ? SPDK_NVME_IO_FLAGS_PRCHK_GUARD : 0;
	spdk |= (flags & FS_FLAG_PRCHK_APPTAG) != 0 ? SPDK_NVME_IO_FLAGS_PRCHK_APPTAG : 0;
	spdk |= (flags & FS_FLAG_PRCHK_REFTAG) != 0 ? SPDK_NVME_IO_FLAGS_PRCHK_REFTAG : 0;
	return spdk;
}

/* Memory for metadata, unless the controller makes and strips it by itself. */
static int
add_metadata(struct fs_queue *queue, struct fs_path *path)
{
	const struct fs_queue_options *options = &queue->options;
	struct fs_layout *layout = &path->layout;
	bool pract = (options->write_flags & FS_FLAG_PRACT) != 0 && layout->pi_type != 0;

	if (layout->metadata_bytes == 0 || (pract && layout->metadata_bytes == FS_PI_BYTES)) {
		return 0;
	}
	layout->check = pract ? 0 : options->read_flags;
	layout->apptag = options->apptag;
	layout->apptag_mask = options->apptag_mask;
	/* Metadata in a buffer of its own must not cross what a PRP can describe: a page each will do. */
	path->metadata_bytes = (fs_metadata_bytes(layout, options->largest_io) + 4095) & ~(size_t)4095;
	path->metadata = spdk_dma_zmalloc(path->metadata_bytes * queue->depth, 4096, NULL);
	if (queue->metadata_ios == NULL) {
		queue->metadata_ios = calloc(queue->depth, sizeof(*queue->metadata_ios));
	}
	return path->metadata == NULL || queue->metadata_ios == NULL ? -ENOMEM : 0;
}

/* Entries and requests of a queue pair: every I/O in flight has one entry, and as many requests as
 * the pieces that SPDK splits it into. */
static void
fill_sizes(const struct fs_queue_options *options, const struct fs_path *path,
	   struct spdk_nvme_io_qpair_opts *opts)
{
	uint32_t largest = spdk_nvme_ctrlr_get_max_xfer_size(path->ctrlr->spdk);
	uint32_t limit = (uint32_t)spdk_nvme_ctrlr_get_regs_cap(path->ctrlr->spdk).bits.mqes + 1;
	uint32_t pieces = largest == 0 ? 1 : (options->largest_io + largest - 1) / largest;
	uint64_t requests, entries = options->io_queue_size;

	if (entries == 0) {
		entries = (uint64_t)options->depth * (pieces > 1 ? pieces : 1) + 1;
		if (entries < opts->io_queue_size) {
			entries = opts->io_queue_size;
		}
	}
	/* A controller on a fabric refuses to connect a queue that is longer. */
	if (entries > limit) {
		entries = limit;
	}
	opts->io_queue_size = (uint32_t)entries;
	requests = options->io_queue_requests;
	if (requests == 0) {
		requests = (uint64_t)options->depth * (pieces > 1 ? pieces + 1 : 1);
		if (requests < DEFAULT_REQUESTS) {
			requests = DEFAULT_REQUESTS;
		}
	}
	if (requests < entries) {
		requests = entries;
	}
	opts->io_queue_requests = (uint32_t)requests;
}

/* What the usual way of an I/O does not look at. */
static bool
is_unusual(const struct fs_path *path)
{
	uint32_t apptag = SPDK_NVME_IO_FLAGS_PRCHK_APPTAG | SPDK_NVME_IO_FLAGS_PRACT;

	return path->metadata != NULL || ((path->read_flags | path->write_flags) & apptag) != 0;
}

int
fs_queue_add(struct fs_queue *queue, struct fs_ctrlr *ctrlr, uint32_t nsid)
{
	struct spdk_nvme_io_qpair_opts opts;
	struct fs_path *paths, *path;
	struct fs_ns_info info;
	int rc = fs_ns_info(ctrlr, nsid, &info);

	if (rc != 0) {
		return rc;
	}
	paths = realloc(queue->paths, (queue->path_count + 1) * sizeof(*paths));
	if (paths == NULL) {
		return -ENOMEM;
	}
	queue->paths = paths;
	path = &paths[queue->path_count];
	memset(path, 0, sizeof(*path));
	path->ctrlr = ctrlr;
	path->nsid = nsid;
	path->identity = fs_identity_of(ctrlr, nsid);
	path->ns = spdk_nvme_ctrlr_get_ns(ctrlr->spdk, nsid);
	path->read_flags = spdk_flags(queue->options.read_flags);
	path->write_flags = spdk_flags(queue->options.write_flags);
	path->layout.lba_bytes = info.lba_bytes;
	path->layout.metadata_bytes = info.metadata_bytes;
	path->layout.pi_type = info.pi_type;
	path->layout.extended = info.extended;
	path->layout.pi_first = info.pi_first;
	rc = add_metadata(queue, path);
	if (rc != 0) {
		spdk_dma_free(path->metadata);
		return rc;
	}
	spdk_nvme_ctrlr_get_default_io_qpair_opts(ctrlr->spdk, &opts, sizeof(opts));
	fill_sizes(&queue->options, path, &opts);
	opts.delay_cmd_submit = queue->options.delay_cmd_submit;
	if (spdk_nvme_ctrlr_get_opts(ctrlr->spdk)->arb_mechanism == SPDK_NVME_CC_AMS_WRR) {
		opts.qprio = (enum spdk_nvme_qprio)queue->options.priority;
	}
	path->entries = opts.io_queue_size;
	path->opts = opts;
	path->epoch = atomic_load(&ctrlr->epoch);
	path->qpair = spdk_nvme_ctrlr_alloc_io_qpair(ctrlr->spdk, &opts, sizeof(opts));
	if (path->qpair == NULL) {
		spdk_dma_free(path->metadata);
		return spdk_nvme_ctrlr_is_failed(ctrlr->spdk) ? -ENXIO : -EAGAIN;
	}
	/* What could not be added is no target: nobody polls it. */
	queue->path_count++;
	atomic_fetch_add(&ctrlr->pairs, 1);
	path->unusual = is_unusual(path);
	return 0;
}

uint32_t
fs_queue_entries(struct fs_queue *queue, uint32_t target)
{
	return target < queue->path_count ? queue->paths[target].entries : 0;
}

static int
deallocate_ranges(struct fs_path *path, struct spdk_nvme_dsm_range *ranges, uint32_t count, struct fs_slot *slot)
{
	struct spdk_nvme_cmd cmd;

	if (count == 0 || count > SPDK_NVME_DATASET_MANAGEMENT_MAX_RANGES) {
		return -EINVAL;
	}
	/* SPDK's own function allocates memory for the ranges each time. */
	memset(&cmd, 0, sizeof(cmd));
	cmd.opc = SPDK_NVME_OPC_DATASET_MANAGEMENT;
	cmd.nsid = path->nsid;
	cmd.cdw10_bits.dsm.nr = count - 1;
	cmd.cdw11 = SPDK_NVME_DSM_ATTR_DEALLOCATE;
	return spdk_nvme_ctrlr_cmd_io_raw(path->ctrlr->spdk, path->qpair, &cmd, ranges, count * sizeof(*ranges),
					  completed, slot);
}

static int
deallocate(struct fs_queue *queue, struct fs_path *path, uint64_t lba, uint32_t blocks, struct fs_slot *slot)
{
	struct spdk_nvme_dsm_range *range = &queue->ranges[slot->tag];

	memset(range, 0, sizeof(*range));
	range->starting_lba = lba;
	range->length = blocks;
	return deallocate_ranges(path, range, 1, slot);
}

/* The buffers of a transfer: those of the I/O, unless metadata of the host's is involved. */
static void *
with_metadata(struct fs_queue *queue, struct fs_path *path, uint32_t op, void *buffer, void **metadata,
	      uint64_t lba, uint32_t blocks, uint32_t tag)
{
	struct fs_metadata_io *io = &queue->metadata_ios[tag];
	uint8_t *memory = path->metadata + tag * path->metadata_bytes;

	io->data = buffer;
	io->lba = lba;
	io->blocks = blocks;
	io->target = (uint32_t)(path - queue->paths);
	io->reads = op == FS_OP_READ;
	if (op != FS_OP_READ) {
		fs_metadata_seal(&path->layout, memory, buffer, lba, blocks);
	}
	if (path->layout.extended) {
		return memory;
	}
	*metadata = memory;
	return buffer;
}

/* The ways that are not read and write of the usual kind. */
static int
submit_unusual(struct fs_queue *queue, struct fs_path *path, uint32_t op, void *buffer, uint64_t lba,
	       uint32_t blocks, struct fs_slot *slot)
{
	uint16_t mask = queue->options.apptag_mask, apptag = queue->options.apptag;
	void *metadata = NULL;

	if (path->metadata != NULL && (op == FS_OP_READ || op == FS_OP_WRITE || op == FS_OP_COMPARE)) {
		buffer = with_metadata(queue, path, op, buffer, &metadata, lba, blocks, slot->tag);
	}
	switch (op) {
	case FS_OP_READ:
		return spdk_nvme_ns_cmd_read_with_md(path->ns, path->qpair, buffer, metadata, lba, blocks, completed,
						     slot, path->read_flags, mask, apptag);
	case FS_OP_WRITE:
		return spdk_nvme_ns_cmd_write_with_md(path->ns, path->qpair, buffer, metadata, lba, blocks, completed,
						      slot, path->write_flags, mask, apptag);
	case FS_OP_DEALLOCATE:
		return deallocate(queue, path, lba, blocks, slot);
	case FS_OP_DEALLOCATE_RANGES:
		return deallocate_ranges(path, buffer, blocks, slot);
	case FS_OP_FLUSH:
		return spdk_nvme_ns_cmd_flush(path->ns, path->qpair, completed, slot);
	case FS_OP_WRITE_ZEROES:
		return spdk_nvme_ns_cmd_write_zeroes(path->ns, path->qpair, lba, blocks, completed, slot,
						     path->write_flags & SPDK_NVME_IO_FLAGS_FORCE_UNIT_ACCESS);
	case FS_OP_WRITE_UNCORRECTABLE:
		return spdk_nvme_ns_cmd_write_uncorrectable(path->ns, path->qpair, lba, blocks, completed, slot);
	case FS_OP_VERIFY:
		return spdk_nvme_ns_cmd_verify(path->ns, path->qpair, lba, blocks, completed, slot, path->read_flags);
	case FS_OP_COMPARE:
		return spdk_nvme_ns_cmd_compare_with_md(path->ns, path->qpair, buffer, metadata, lba, blocks, completed,
							slot, path->read_flags, mask, apptag);
	default:
		return -EINVAL;
	}
}

/* The I/O was not taken: unless it completed all the same, its tag is free. */
static int
refused(struct fs_queue *queue, struct fs_slot *slot, int rc)
{
	if (!slot->in_flight) {
		return 0;
	}
	slot->in_flight = false;
	queue->in_flight--;
	/* Requests of other I/Os come free; with none in flight none ever will. */
	return rc == -ENOMEM && queue->in_flight > 0 ? -EAGAIN : rc;
}

int
fs_queue_submit(struct fs_queue *queue, uint32_t op, uint32_t target, void *buffer, uint64_t lba,
		uint32_t blocks, uint32_t tag)
{
	struct fs_path *path = &queue->paths[target];
	struct fs_slot *slot = &queue->slots[tag];
	int rc;

	if (spdk_unlikely(path->broken | path->dead
			  | (atomic_load_explicit(&path->ctrlr->epoch, memory_order_acquire) != path->epoch))) {
		/* After a reset the next poll has a new queue pair. */
		return path->dead ? -ENXIO : -EAGAIN;
	}
	/* The completion may come before the function returns. */
	slot->in_flight = true;
	queue->in_flight++;
	if (spdk_unlikely(path->unusual || op > FS_OP_WRITE)) {
		rc = submit_unusual(queue, path, op, buffer, lba, blocks, slot);
	} else if (op == FS_OP_READ) {
		rc = spdk_nvme_ns_cmd_read(path->ns, path->qpair, buffer, lba, blocks, completed, slot,
					   path->read_flags);
	} else {
		rc = spdk_nvme_ns_cmd_write(path->ns, path->qpair, buffer, lba, blocks, completed, slot,
					    path->write_flags);
	}
	return spdk_likely(rc == 0) ? 0 : refused(queue, slot, rc);
}

/* The controller has been reset: what was in flight comes back, and a new queue pair takes over. */
static void
renew(struct fs_path *path)
{
	/* For PCIe SPDK brings the old one up again; for the rest it forgets what was in flight. */
	spdk_nvme_ctrlr_free_io_qpair(path->qpair);
	path->qpair = NULL;
	if (!atomic_load(&path->ctrlr->failed) && fs_is_other_namespace(path->ctrlr, path->nsid, &path->identity)) {
		atomic_store(&path->ctrlr->replaced, true);
		fs_ctrlr_fail(path->ctrlr);
	}
	if (!atomic_load(&path->ctrlr->failed)) {
		path->qpair = spdk_nvme_ctrlr_alloc_io_qpair(path->ctrlr->spdk, &path->opts, sizeof(path->opts));
	}
	path->dead = path->qpair == NULL;
	if (path->dead) {
		atomic_fetch_sub(&path->ctrlr->pairs, 1);
	}
	path->broken = false;
	path->unusual = is_unusual(path);
}

/* Counts the queue pair among those that are left alone, if that reset is still under way. */
static void
park(struct fs_ctrlr *ctrlr, unsigned int epoch)
{
	uint_fast64_t parked = atomic_load(&ctrlr->parked);

	while (parked >> 32 == epoch && !atomic_compare_exchange_weak(&ctrlr->parked, &parked, parked + 1)) {
	}
}

/* The controller's epoch is another one. */
static void
follow(struct fs_path *path, unsigned int epoch)
{
	if (path->dead) {
		return;
	}
	if ((epoch & 1) != 0) {
		/* A reset is under way: the queue pair is not touched until it is over. */
		path->broken = true;
		park(path->ctrlr, epoch);
	} else {
		renew(path);
	}
}

/* 0, or a negative errno where the queue pair is dead. */
static inline int
poll_path(struct fs_path *path, uint32_t max)
{
	unsigned int epoch = atomic_load_explicit(&path->ctrlr->epoch, memory_order_acquire);
	int32_t rc;

	if (spdk_unlikely(epoch != path->epoch)) {
		path->epoch = epoch;
		follow(path, epoch);
	}
	if (spdk_unlikely(path->broken || path->dead)) {
		return path->dead ? -ENXIO : 0;
	}
	rc = spdk_nvme_qpair_process_completions(path->qpair, max);
	if (spdk_unlikely(rc < 0)) {
		/* Of a reset that begins this very moment the next poll knows. */
		path->dead = atomic_load(&path->ctrlr->epoch) == epoch;
		return path->dead ? rc : 0;
	}
	return 0;
}

int32_t
fs_queue_poll(struct fs_queue *queue, uint32_t max)
{
	struct fs_path *path = queue->paths;
	int rc, error;

	error = poll_path(path, max);
	for (uint32_t target = 1; target < queue->path_count; target++) {
		rc = poll_path(++path, max);
		error = rc < 0 ? rc : error;
	}
	return spdk_unlikely(error < 0) ? error : (int32_t)queue->count;
}

const struct fs_done *
fs_queue_done(const struct fs_queue *queue, uint32_t *count)
{
	*count = queue->count;
	return queue->done;
}

void
fs_queue_consume(struct fs_queue *queue, uint32_t count)
{
	if (count >= queue->count) {
		queue->count = 0;
		return;
	}
	queue->count -= count;
	memmove(queue->done, queue->done + count, queue->count * sizeof(*queue->done));
}

uint32_t
fs_queue_in_flight(const struct fs_queue *queue)
{
	return queue->in_flight;
}

uint64_t
fs_queue_strays(const struct fs_queue *queue)
{
	return queue->strays;
}

/* Nobody but the thread that resets uses the controller meanwhile. */
static void
await_reset(struct fs_path *path)
{
	unsigned int epoch;

	while (((epoch = atomic_load(&path->ctrlr->epoch)) & 1) != 0) {
		if (epoch != path->epoch) {
			path->epoch = epoch;
			follow(path, epoch);
		}
		usleep(RESET_POLL_US);
	}
}

void
fs_queue_close(struct fs_queue *queue)
{
	if (queue->closed) {
		return;
	}
	queue->closed = true;
	for (uint32_t target = 0; target < queue->path_count; target++) {
		struct fs_path *path = &queue->paths[target];

		await_reset(path);
		path->dead = true;
		if (path->qpair == NULL) {
			continue;
		}
		/* SPDK deletes queues by admin commands, and waits for them without a limit. */
		if (!atomic_load(&path->ctrlr->failed) && !fs_ctrlr_answers(path->ctrlr)) {
			fs_ctrlr_fail(path->ctrlr);
		}
		spdk_nvme_ctrlr_free_io_qpair(path->qpair);
		atomic_fetch_sub(&path->ctrlr->pairs, 1);
		path->qpair = NULL;
	}
}

void
fs_queue_free(struct fs_queue *queue)
{
	if (queue == NULL) {
		return;
	}
	fs_queue_close(queue);
	for (uint32_t target = 0; target < queue->path_count; target++) {
		spdk_dma_free(queue->paths[target].metadata);
	}
	spdk_dma_free(queue->ranges);
	free(queue->metadata_ios);
	free(queue->paths);
	free(queue->slots);
	free(queue->done);
	free(queue);
}
