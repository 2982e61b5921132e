/* Queue pairs: submission, the doorbell, completions. */
#include "internal.h"

/* Completions are taken from the oldest so many, in any order. */
enum { WINDOW = 4 };

void
fake_call(spdk_nvme_cmd_cb done, void *arg, uint16_t cid, uint16_t status, uint32_t cdw0)
{
	struct spdk_nvme_cpl cpl;

	memset(&cpl, 0, sizeof(cpl));
	cpl.cid = cid;
	cpl.cdw0 = cdw0;
	/* With a phase bit, which changes from pass to pass. */
	cpl.status_raw = (uint16_t)(status << 1 | (cid & 1));
	done(arg, &cpl);
}

/* Takes the drive's lock for a function of a queue pair. */
static void
enter(struct spdk_nvme_qpair *pair)
{
	struct fake_drive *drive = pair->ctrlr->drive;

	pthread_mutex_lock(&drive->lock);
	if (pair->ctrlr->resetting) {
		fake_misuse(drive, "a queue pair was used during a reset");
	}
	pair->users++;
}

static void
leave(struct spdk_nvme_qpair *pair)
{
	pair->users--;
	pthread_mutex_unlock(&pair->ctrlr->drive->lock);
}

void
spdk_nvme_ctrlr_get_default_io_qpair_opts(struct spdk_nvme_ctrlr *ctrlr,
		struct spdk_nvme_io_qpair_opts *opts, size_t opts_size)
{
	(void)ctrlr;
	memset(opts, 0, opts_size);
	opts->io_queue_size = 256;
	opts->io_queue_requests = 512;
}

struct spdk_nvme_qpair *
spdk_nvme_ctrlr_alloc_io_qpair(struct spdk_nvme_ctrlr *ctrlr, const struct spdk_nvme_io_qpair_opts *opts,
			       size_t opts_size)
{
	struct fake_drive *drive = ctrlr->drive;
	struct spdk_nvme_qpair *pair = NULL;

	(void)opts_size;
	pthread_mutex_lock(&drive->lock);
	if (ctrlr->failed || ctrlr->resetting || drive->knobs[FAKE_DEATH] != FAKE_ALIVE
	    || ctrlr->pair_count == ctrlr->opts.num_io_queues || opts->io_queue_size < 2) {
		goto out;
	}
	pair = calloc(1, sizeof(*pair));
	pair->ctrlr = ctrlr;
	pair->entries = opts->io_queue_size < drive->shape.entries ? opts->io_queue_size : drive->shape.entries;
	pair->requests = pair->free_requests = opts->io_queue_requests;
	pair->delays = opts->delay_cmd_submit;
	pair->connected = true;
	pair->dice = 1;
	pair->slots = calloc(pair->requests, sizeof(*pair->slots));
	pair->order = calloc(pair->requests, sizeof(*pair->order));
	pair->free = calloc(pair->requests, sizeof(*pair->free));
	for (; pair->free_count < pair->requests; pair->free_count++) {
		pair->free[pair->free_count] = pair->requests - 1 - pair->free_count;
	}
	pair->next = ctrlr->pairs;
	ctrlr->pairs = pair;
	ctrlr->pair_count++;
out:
	pthread_mutex_unlock(&drive->lock);
	return pair;
}

/* Takes the request at `at` of the order out of the queue pair and calls back. */
static void
complete(struct spdk_nvme_qpair *pair, uint32_t at, uint16_t status)
{
	struct fake_drive *drive = pair->ctrlr->drive;
	uint32_t cid = pair->order[at];
	struct request request = pair->slots[cid];

	memset(&pair->slots[cid], 0, sizeof(pair->slots[cid]));
	memmove(pair->order + at, pair->order + at + 1, (--pair->count - at) * sizeof(*pair->order));
	pair->free[pair->free_count++] = cid;
	pair->free_requests += request.cost;
	fake_call(request.done, request.arg, (uint16_t)cid, status, 0);
	if (drive->knobs[FAKE_STRAYS] > 0) {
		drive->knobs[FAKE_STRAYS]--;
		fake_call(request.done, request.arg, (uint16_t)cid, status, 0);
	}
}

void
fake_complete_all(struct spdk_nvme_qpair *pair, uint16_t status)
{
	while (pair->count > 0) {
		complete(pair, 0, status);
	}
}

int
spdk_nvme_ctrlr_free_io_qpair(struct spdk_nvme_qpair *qpair)
{
	struct spdk_nvme_ctrlr *ctrlr;
	struct fake_drive *drive;
	struct spdk_nvme_qpair **at;

	if (qpair == NULL) {
		return 0;
	}
	ctrlr = qpair->ctrlr;
	drive = ctrlr->drive;
	enter(qpair);
	if (!ctrlr->failed && (drive->knobs[FAKE_DEATH] == FAKE_SILENT || drive->knobs[FAKE_ADMIN_SILENT] != 0)) {
		fake_misuse(drive, "freeing a queue pair would wait for ever");
	}
	fake_complete_all(qpair, ABORTED_BY_REQUEST);
	for (at = &ctrlr->pairs; *at != qpair; at = &(*at)->next) {
	}
	*at = qpair->next;
	ctrlr->pair_count--;
	leave(qpair);
	free(qpair->slots);
	free(qpair->order);
	free(qpair->free);
	free(qpair);
	return 0;
}

/* Makes submitted commands visible to the device, as far as its queue has room: a full ring has one
 * entry free. */
static void
ring(struct spdk_nvme_qpair *pair)
{
	uint64_t *biggest = &pair->ctrlr->drive->knobs[FAKE_BIGGEST_BATCH];
	uint32_t news = 0;

	for (uint32_t at = 0; at < pair->count && at + 1 < pair->entries; at++) {
		struct request *request = &pair->slots[pair->order[at]];

		news += request->visible ? 0 : 1;
		request->visible = true;
	}
	*biggest = news > *biggest ? news : *biggest;
}

/* Once for each command that has been on its way for too long. */
static void
time_out(struct spdk_nvme_qpair *pair)
{
	struct spdk_nvme_ctrlr *ctrlr = pair->ctrlr;
	uint64_t now_us = ctrlr->timeout_us == 0 ? 0 : fake_now_us();

	for (uint32_t at = 0; ctrlr->timeout_us != 0 && at < pair->count; at++) {
		struct request *request = &pair->slots[pair->order[at]];

		if (!request->timed_out && now_us - request->submitted_us > ctrlr->timeout_us) {
			request->timed_out = true;
			ctrlr->timed_out(ctrlr->timed_out_arg, ctrlr, pair, (uint16_t)pair->order[at]);
		}
	}
}

/* The next to complete, among the oldest that can; -1 for none. */
static int64_t
choose(struct spdk_nvme_qpair *pair)
{
	uint32_t candidates[WINDOW], count = 0;

	for (uint32_t at = 0; at < pair->count && count < WINDOW; at++) {
		struct request *request = &pair->slots[pair->order[at]];

		if (!request->visible) {
			break;
		}
		if (!request->stuck) {
			candidates[count++] = at;
		}
	}
	pair->dice = pair->dice * 1664525 + 1013904223;
	return count == 0 ? -1 : (int64_t)candidates[(pair->dice >> 16) % count];
}

static int32_t
deliver(struct spdk_nvme_qpair *pair, uint32_t max)
{
	struct fake_drive *drive = pair->ctrlr->drive;
	int32_t delivered = 0;
	int64_t at;

	while ((uint32_t)delivered < max && (at = choose(pair)) >= 0) {
		struct request *request = &pair->slots[pair->order[at]];
		uint16_t status = request->forced & 0x7fff;

		if (request->forced == 0) {
			status = fake_execute(drive, &request->command);
		}
		complete(pair, (uint32_t)at, status);
		delivered++;
	}
	return delivered;
}

static int32_t
process(struct spdk_nvme_qpair *pair, uint32_t max)
{
	struct spdk_nvme_ctrlr *ctrlr = pair->ctrlr;
	uint64_t *knobs = ctrlr->drive->knobs;
	uint32_t before = pair->count;
	int32_t delivered;

	if (ctrlr->failed || !pair->connected) {
		return -ENXIO;
	}
	if (knobs[FAKE_DEATH] == FAKE_DISCONNECTED) {
		pair->connected = false;
		fake_complete_all(pair, ABORTED_QUEUE_DELETED);
		return -ENXIO;
	}
	if (knobs[FAKE_DEATH] == FAKE_SILENT) {
		time_out(pair);
		return 0;
	}
	if (knobs[FAKE_HOLD] != 0) {
		ring(pair);
		time_out(pair);
		return 0;
	}
	/* What has no visible end yet cannot be among them: the doorbell is rung last. */
	delivered = deliver(pair, max == 0 ? before : max + (uint32_t)knobs[FAKE_EXCESS]);
	ring(pair);
	/* As SPDK does it: what has been done is not late, however late it is looked at. */
	time_out(pair);
	if (delivered > 0 && knobs[FAKE_POLL_ERRORS] > 0) {
		knobs[FAKE_POLL_ERRORS]--;
		pair->connected = false;
		return -ENXIO;
	}
	return delivered;
}

int32_t
spdk_nvme_qpair_process_completions(struct spdk_nvme_qpair *qpair, uint32_t max_completions)
{
	int32_t rc;

	enter(qpair);
	rc = process(qpair, max_completions);
	leave(qpair);
	return rc;
}

/* Whether an n-th command is this one. */
static bool
is_due(uint64_t *countdown)
{
	return *countdown > 0 && --*countdown == 0;
}

static int
accept(struct spdk_nvme_qpair *pair, const struct command *command, spdk_nvme_cmd_cb done, void *arg)
{
	struct fake_drive *drive = pair->ctrlr->drive;
	uint64_t *knobs = drive->knobs;
	uint64_t bytes = (uint64_t)command->blocks * drive->shape.lba_bytes;
	uint32_t pieces = (uint32_t)((bytes + drive->shape.max_transfer - 1) / drive->shape.max_transfer);
	uint32_t cost = command->data == NULL || pieces <= 1 ? 1 : pieces + 1;
	struct request *request;

	if (pair->ctrlr->failed || !pair->connected) {
		return -ENXIO;
	}
	if (drive->stores[command->nsid - 1].removed) {
		return -EINVAL;
	}
	if (knobs[FAKE_REFUSALS] > 0) {
		knobs[FAKE_REFUSALS]--;
		return -ENOMEM;
	}
	if (cost > pair->free_requests || pair->free_count == 0) {
		return -ENOMEM;
	}
	pair->free_requests -= cost;
	pair->order[pair->count++] = pair->free[--pair->free_count];
	request = &pair->slots[pair->order[pair->count - 1]];
	request->command = *command;
	request->done = done;
	request->arg = arg;
	request->cost = cost;
	request->busy = true;
	request->submitted_us = pair->ctrlr->timeout_us == 0 ? 0 : fake_now_us();
	request->stuck = is_due(&knobs[FAKE_STUCK_AT]);
	request->forced = is_due(&knobs[FAKE_FAIL_AT]) ? (uint16_t)knobs[FAKE_STATUS] | 0x8000 : 0;
	knobs[FAKE_COMMANDS]++;
	if (!pair->delays) {
		ring(pair);
	}
	return 0;
}

static int
submit(struct spdk_nvme_qpair *pair, const struct command *command, spdk_nvme_cmd_cb done, void *arg)
{
	int rc;

	enter(pair);
	rc = accept(pair, command, done, arg);
	leave(pair);
	return rc;
}

static int
transfer(enum command_kind kind, struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, void *payload,
	 void *metadata, uint64_t lba, uint32_t lba_count, spdk_nvme_cmd_cb cb_fn, void *cb_arg, uint32_t io_flags,
	 uint16_t apptag_mask, uint16_t apptag)
{
	struct command command = {
		.kind = kind,
		.nsid = ns->nsid,
		.lba = lba,
		.blocks = lba_count,
		.data = payload,
		.metadata = metadata,
		.flags = io_flags,
		.apptag_mask = apptag_mask,
		.apptag = apptag,
	};

	return submit(qpair, &command, cb_fn, cb_arg);
}

int
spdk_nvme_ns_cmd_read(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, void *payload, uint64_t lba,
		      uint32_t lba_count, spdk_nvme_cmd_cb cb_fn, void *cb_arg, uint32_t io_flags)
{
	return transfer(READ, ns, qpair, payload, NULL, lba, lba_count, cb_fn, cb_arg, io_flags, 0, 0);
}

int
spdk_nvme_ns_cmd_write(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, void *payload, uint64_t lba,
		       uint32_t lba_count, spdk_nvme_cmd_cb cb_fn, void *cb_arg, uint32_t io_flags)
{
	return transfer(WRITE, ns, qpair, payload, NULL, lba, lba_count, cb_fn, cb_arg, io_flags, 0, 0);
}

int
spdk_nvme_ns_cmd_read_with_md(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, void *payload,
			      void *metadata, uint64_t lba, uint32_t lba_count, spdk_nvme_cmd_cb cb_fn,
			      void *cb_arg, uint32_t io_flags, uint16_t apptag_mask, uint16_t apptag)
{
	return transfer(READ, ns, qpair, payload, metadata, lba, lba_count, cb_fn, cb_arg, io_flags, apptag_mask,
			apptag);
}

int
spdk_nvme_ns_cmd_write_with_md(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, void *payload,
			       void *metadata, uint64_t lba, uint32_t lba_count, spdk_nvme_cmd_cb cb_fn,
			       void *cb_arg, uint32_t io_flags, uint16_t apptag_mask, uint16_t apptag)
{
	return transfer(WRITE, ns, qpair, payload, metadata, lba, lba_count, cb_fn, cb_arg, io_flags, apptag_mask,
			apptag);
}

int
spdk_nvme_ns_cmd_compare_with_md(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, void *payload,
				 void *metadata, uint64_t lba, uint32_t lba_count, spdk_nvme_cmd_cb cb_fn,
				 void *cb_arg, uint32_t io_flags, uint16_t apptag_mask, uint16_t apptag)
{
	return transfer(COMPARE, ns, qpair, payload, metadata, lba, lba_count, cb_fn, cb_arg, io_flags,
			apptag_mask, apptag);
}

int
spdk_nvme_ns_cmd_flush(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, spdk_nvme_cmd_cb cb_fn,
		       void *cb_arg)
{
	return transfer(FLUSH, ns, qpair, NULL, NULL, 0, 0, cb_fn, cb_arg, 0, 0, 0);
}

int
spdk_nvme_ns_cmd_write_zeroes(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, uint64_t lba,
			      uint32_t lba_count, spdk_nvme_cmd_cb cb_fn, void *cb_arg, uint32_t io_flags)
{
	if (lba_count == 0 || lba_count > UINT16_MAX + 1) {
		return -EINVAL;
	}
	return transfer(WRITE_ZEROES, ns, qpair, NULL, NULL, lba, lba_count, cb_fn, cb_arg, io_flags, 0, 0);
}

int
spdk_nvme_ns_cmd_write_uncorrectable(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, uint64_t lba,
				     uint32_t lba_count, spdk_nvme_cmd_cb cb_fn, void *cb_arg)
{
	if (lba_count == 0 || lba_count > UINT16_MAX + 1) {
		return -EINVAL;
	}
	return transfer(WRITE_UNCORRECTABLE, ns, qpair, NULL, NULL, lba, lba_count, cb_fn, cb_arg, 0, 0, 0);
}

int
spdk_nvme_ns_cmd_verify(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, uint64_t lba,
			uint32_t lba_count, spdk_nvme_cmd_cb cb_fn, void *cb_arg, uint32_t io_flags)
{
	if (lba_count == 0 || lba_count > UINT16_MAX + 1) {
		return -EINVAL;
	}
	return transfer(VERIFY, ns, qpair, NULL, NULL, lba, lba_count, cb_fn, cb_arg, io_flags, 0, 0);
}

int
spdk_nvme_ctrlr_cmd_io_raw(struct spdk_nvme_ctrlr *ctrlr, struct spdk_nvme_qpair *qpair,
			   struct spdk_nvme_cmd *cmd, void *buf, uint32_t len, spdk_nvme_cmd_cb cb_fn,
			   void *cb_arg)
{
	uint32_t ranges = cmd->cdw10_bits.dsm.nr + 1;
	struct command command = { .kind = DEALLOCATE, .nsid = cmd->nsid, .data = buf, .ranges = ranges };

	(void)ctrlr;
	if (cmd->opc != SPDK_NVME_OPC_DATASET_MANAGEMENT || len != ranges * sizeof(struct spdk_nvme_dsm_range)
	    || cmd->nsid == 0 || cmd->nsid > MOST_NAMESPACES) {
		return -EINVAL;
	}
	return submit(qpair, &command, cb_fn, cb_arg);
}
