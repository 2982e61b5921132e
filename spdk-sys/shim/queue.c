/* Queues: the hot path. */
#include <unistd.h>

#include "internal.h"
#include "metadata.h"
#include "spdk/likely.h"

enum {
	/* SPDK's own default. */
	DEFAULT_REQUESTS = 512,
	RESET_POLL_US = 20,
};

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
	/* The last reset that it was left alone for; 0 for none. */
	uint64_t parked_for;
	/* Disconnected by a reset. */
	bool broken;
	bool dead;
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
	if (!fs_is_fabric(path->ctrlr) && entries > limit) {
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
	path->qpair = spdk_nvme_ctrlr_alloc_io_qpair(ctrlr->spdk, &opts, sizeof(opts));
	if (path->qpair == NULL) {
		spdk_dma_free(path->metadata);
		return spdk_nvme_ctrlr_is_failed(ctrlr->spdk) ? -ENXIO : -EAGAIN;
	}
	/* What could not be added is no target: nobody polls it. */
	queue->path_count++;
	atomic_fetch_add(&ctrlr->pairs, 1);
	return 0;
}

uint32_t
fs_queue_entries(struct fs_queue *queue, uint32_t target)
{
	return target < queue->path_count ? queue->paths[target].entries : 0;
}

static int
deallocate(struct fs_queue *queue, struct fs_path *path, uint64_t lba, uint32_t blocks, struct fs_slot *slot)
{
	struct spdk_nvme_dsm_range *range = &queue->ranges[slot->tag];
	struct spdk_nvme_cmd cmd;

	/* SPDK's own function allocates memory for the ranges each time. */
	memset(range, 0, sizeof(*range));
	range->starting_lba = lba;
	range->length = blocks;
	memset(&cmd, 0, sizeof(cmd));
	cmd.opc = SPDK_NVME_OPC_DATASET_MANAGEMENT;
	cmd.nsid = path->nsid;
	cmd.cdw10_bits.dsm.nr = 0;
	cmd.cdw11 = SPDK_NVME_DSM_ATTR_DEALLOCATE;
	return spdk_nvme_ctrlr_cmd_io_raw(path->ctrlr->spdk, path->qpair, &cmd, range, sizeof(*range), completed,
					  slot);
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

int
fs_queue_submit(struct fs_queue *queue, uint32_t op, uint32_t target, void *buffer, uint64_t lba,
		uint32_t blocks, uint32_t tag)
{
	struct fs_path *path = &queue->paths[target];
	struct fs_slot *slot = &queue->slots[tag];
	uint16_t mask = queue->options.apptag_mask, apptag = queue->options.apptag;
	void *metadata = NULL;
	int rc;

	if (spdk_unlikely(path->broken || path->dead)) {
		return path->dead ? -ENXIO : -EAGAIN;
	}
	if (spdk_unlikely(path->metadata != NULL) && (op <= FS_OP_WRITE || op == FS_OP_COMPARE)) {
		buffer = with_metadata(queue, path, op, buffer, &metadata, lba, blocks, tag);
	}
	/* The completion may come before the function returns. */
	slot->in_flight = true;
	queue->in_flight++;
	switch (op) {
	case FS_OP_READ:
		rc = spdk_nvme_ns_cmd_read_with_md(path->ns, path->qpair, buffer, metadata, lba, blocks, completed,
						   slot, path->read_flags, mask, apptag);
		break;
	case FS_OP_WRITE:
		rc = spdk_nvme_ns_cmd_write_with_md(path->ns, path->qpair, buffer, metadata, lba, blocks, completed,
						    slot, path->write_flags, mask, apptag);
		break;
	case FS_OP_DEALLOCATE:
		rc = deallocate(queue, path, lba, blocks, slot);
		break;
	case FS_OP_FLUSH:
		rc = spdk_nvme_ns_cmd_flush(path->ns, path->qpair, completed, slot);
		break;
	case FS_OP_WRITE_ZEROES:
		rc = spdk_nvme_ns_cmd_write_zeroes(path->ns, path->qpair, lba, blocks, completed, slot,
						   path->write_flags & SPDK_NVME_IO_FLAGS_FORCE_UNIT_ACCESS);
		break;
	case FS_OP_WRITE_UNCORRECTABLE:
		rc = spdk_nvme_ns_cmd_write_uncorrectable(path->ns, path->qpair, lba, blocks, completed, slot);
		break;
	case FS_OP_VERIFY:
		rc = spdk_nvme_ns_cmd_verify(path->ns, path->qpair, lba, blocks, completed, slot, path->read_flags);
		break;
	case FS_OP_COMPARE:
		rc = spdk_nvme_ns_cmd_compare_with_md(path->ns, path->qpair, buffer, metadata, lba, blocks, completed,
						      slot, path->read_flags, mask, apptag);
		break;
	default:
		rc = -EINVAL;
		break;
	}
	if (spdk_unlikely(rc != 0)) {
		if (!slot->in_flight) {
			/* Completed, and refused as well: the completion counts. */
			return 0;
		}
		slot->in_flight = false;
		queue->in_flight--;
		/* Requests of other I/Os come free; with none in flight none ever will. */
		return rc == -ENOMEM && queue->in_flight > 0 ? -EAGAIN : rc;
	}
	return 0;
}

/* A reset is under way: the queue pair is not touched until it is over. Each reset counts it once. */
static void
park(struct fs_path *path)
{
	uint_fast64_t parked = atomic_load(&path->ctrlr->parked);

	path->broken = true;
	while (path->parked_for != parked >> 32) {
		if (atomic_compare_exchange_weak(&path->ctrlr->parked, &parked, parked + 1)) {
			path->parked_for = parked >> 32;
		}
	}
}

/* A queue pair that is not usable: connected again after a reset, or dead. */
static int
mend(struct fs_path *path, int rc)
{
	if (path->dead || atomic_load(&path->ctrlr->failed)) {
		path->dead = true;
		return -ENXIO;
	}
	switch (spdk_nvme_ctrlr_reconnect_io_qpair(path->qpair)) {
	case 0:
		path->broken = false;
		return 0;
	case -EAGAIN:
		return 0;
	default:
		path->dead = true;
		return rc < 0 ? rc : -ENXIO;
	}
}

int32_t
fs_queue_poll(struct fs_queue *queue, uint32_t max)
{
	int error = 0;

	for (uint32_t target = 0; target < queue->path_count; target++) {
		struct fs_path *path = &queue->paths[target];
		int32_t rc;

		if (spdk_unlikely(atomic_load_explicit(&path->ctrlr->resetting, memory_order_acquire))
		    && path->qpair != NULL) {
			park(path);
			continue;
		}
		rc = path->dead ? -ENXIO : spdk_nvme_qpair_process_completions(path->qpair, max);
		if (spdk_unlikely(rc < 0 || path->broken)) {
			rc = mend(path, rc);
			error = rc < 0 ? rc : error;
		}
	}
	return error != 0 ? error : (int32_t)queue->count;
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

void
fs_queue_close(struct fs_queue *queue)
{
	if (queue->closed) {
		return;
	}
	queue->closed = true;
	for (uint32_t target = 0; target < queue->path_count; target++) {
		struct fs_path *path = &queue->paths[target];

		path->dead = true;
		if (path->qpair == NULL) {
			continue;
		}
		while (atomic_load(&path->ctrlr->resetting)) {
			park(path);
			usleep(RESET_POLL_US);
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
