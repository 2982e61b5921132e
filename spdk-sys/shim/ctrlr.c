/* Controllers: attaching, admin commands, health. */
#include <time.h>
#include <unistd.h>

#include "internal.h"

enum {
	ADMIN_POLL_US = 20,
	/* How long a controller may take to answer before it counts as dead. */
	ANSWER_US = 2 * 1000 * 1000,
	/* How long threads may take to leave their queue pairs alone before a reset. */
	PARK_US = 2 * 1000 * 1000,
	FEATURE_NUMBER_OF_QUEUES = 7,
};

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint32_t
transport_of(const struct spdk_nvme_transport_id *id)
{
	switch (id->trtype) {
	case SPDK_NVME_TRANSPORT_PCIE:
		return FS_TRANSPORT_PCIE;
	case SPDK_NVME_TRANSPORT_VFIOUSER:
		return FS_TRANSPORT_VFIOUSER;
	case SPDK_NVME_TRANSPORT_TCP:
		return FS_TRANSPORT_TCP;
	case SPDK_NVME_TRANSPORT_RDMA:
		return FS_TRANSPORT_RDMA;
	default:
		return FS_TRANSPORT_OTHER;
	}
}

static void
abort_done(void *arg, const struct spdk_nvme_cpl *cpl)
{
	struct fs_ctrlr *ctrlr = arg;

	/* Bit 0 of the result: the command was not aborted (NVMe Base 2.0, 5.1). */
	if (spdk_nvme_cpl_is_error(cpl) || (cpl->cdw0 & 1) != 0) {
		atomic_fetch_add(&ctrlr->failed_aborts, 1);
	} else {
		atomic_fetch_add(&ctrlr->aborts, 1);
	}
}

/* Called on the thread that polls the queue pair; admin commands have none. */
static void
timed_out(void *arg, struct spdk_nvme_ctrlr *spdk, struct spdk_nvme_qpair *qpair, uint16_t cid)
{
	struct fs_ctrlr *ctrlr = arg;

	if (qpair == NULL) {
		return;
	}
	atomic_fetch_add(&ctrlr->timeouts, 1);
	switch (ctrlr->timeout_action) {
	case FS_TIMEOUT_ABORT:
		/* By command identifier: aborting by callback argument crashes over vfio-user. */
		if (spdk_nvme_ctrlr_cmd_abort(spdk, qpair, cid, abort_done, ctrlr) != 0) {
			atomic_fetch_add(&ctrlr->failed_aborts, 1);
		}
		break;
	case FS_TIMEOUT_RESET:
		atomic_store(&ctrlr->wants_reset, true);
		break;
	case FS_TIMEOUT_FAIL:
		atomic_store(&ctrlr->wants_fail, true);
		break;
	default:
		break;
	}
}

static void
event(void *arg, const struct spdk_nvme_cpl *cpl)
{
	struct fs_ctrlr *ctrlr = arg;

	if (spdk_nvme_cpl_is_error(cpl)) {
		return;
	}
	pthread_mutex_lock(&ctrlr->events_lock);
	if (ctrlr->event_count < FS_MAX_EVENTS) {
		ctrlr->events[ctrlr->event_count++] = cpl->cdw0;
	}
	pthread_mutex_unlock(&ctrlr->events_lock);
}

static void
fill_options(struct spdk_nvme_ctrlr_opts *opts, const struct fs_ctrlr_options *options)
{
	spdk_nvme_ctrlr_get_default_ctrlr_opts(opts, sizeof(*opts));
	if (options->num_io_queues != 0) {
		opts->num_io_queues = options->num_io_queues;
	}
	if (options->hostnqn != NULL) {
		strncpy(opts->hostnqn, options->hostnqn, sizeof(opts->hostnqn) - 1);
		opts->hostnqn[sizeof(opts->hostnqn) - 1] = '\0';
	}
	opts->keep_alive_timeout_ms = options->keep_alive_timeout_ms;
	opts->use_cmb_sqs = options->use_cmb_sqs;
	opts->header_digest = options->header_digest;
	opts->data_digest = options->data_digest;
	/* Failed commands are data here; printing each would be work on the hot path. */
	opts->disable_error_logging = true;
	if (options->enable_wrr) {
		opts->arb_mechanism = SPDK_NVME_CC_AMS_WRR;
		opts->arbitration_burst = options->arbitration_burst;
		opts->low_priority_weight = options->low_weight;
		opts->medium_priority_weight = options->medium_weight;
		opts->high_priority_weight = options->high_weight;
	}
}

int
fs_ctrlr_attach(const char *transport_id, const struct fs_ctrlr_options *options, struct fs_ctrlr **out)
{
	struct spdk_nvme_transport_id id;
	struct spdk_nvme_host_id host;
	struct spdk_nvme_ctrlr_opts opts;
	struct fs_ctrlr *ctrlr;

	memset(&id, 0, sizeof(id));
	memset(&host, 0, sizeof(host));
	if (spdk_nvme_transport_id_parse(&id, transport_id) != 0
	    || spdk_nvme_host_id_parse(&host, transport_id) != 0) {
		return -EINVAL;
	}
	ctrlr = calloc(1, sizeof(*ctrlr));
	if (ctrlr == NULL) {
		return -ENOMEM;
	}
	fill_options(&opts, options);
	memcpy(opts.src_addr, host.hostaddr, sizeof(opts.src_addr));
	memcpy(opts.src_svcid, host.hostsvcid, sizeof(opts.src_svcid));
	ctrlr->spdk = spdk_nvme_connect(&id, &opts, sizeof(opts));
	if (ctrlr->spdk == NULL) {
		free(ctrlr);
		return -ENODEV;
	}
	ctrlr->transport = transport_of(&id);
	ctrlr->timeout_action = options->timeout_action;
	memcpy(ctrlr->identity, (const uint8_t *)spdk_nvme_ctrlr_get_data(ctrlr->spdk) + FS_IDENTITY_AT,
	       FS_IDENTITY_BYTES);
	pthread_mutex_init(&ctrlr->events_lock, NULL);
	spdk_nvme_ctrlr_register_aer_callback(ctrlr->spdk, event, ctrlr);
	if (options->command_timeout_us != 0) {
		spdk_nvme_ctrlr_register_timeout_callback(ctrlr->spdk, options->command_timeout_us, 0,
				timed_out, ctrlr);
	}
	*out = ctrlr;
	return 0;
}

void
fs_ctrlr_detach(struct fs_ctrlr *ctrlr)
{
	if (ctrlr == NULL) {
		return;
	}
	/* What SPDK does first is an admin command without a limit of time. */
	if (!atomic_load(&ctrlr->failed) && !fs_ctrlr_answers(ctrlr)) {
		fs_ctrlr_fail(ctrlr);
	}
	spdk_nvme_detach(ctrlr->spdk);
	pthread_mutex_destroy(&ctrlr->events_lock);
	free(ctrlr);
}

void
fs_ctrlr_info(struct fs_ctrlr *ctrlr, struct fs_ctrlr_info *info)
{
	const struct spdk_nvme_ctrlr_opts *opts = spdk_nvme_ctrlr_get_opts(ctrlr->spdk);
	uint64_t flags = spdk_nvme_ctrlr_get_flags(ctrlr->spdk);

	memset(info, 0, sizeof(*info));
	info->transport = ctrlr->transport;
	info->max_transfer_bytes = spdk_nvme_ctrlr_get_max_xfer_size(ctrlr->spdk);
	info->max_queue_entries = (uint32_t)spdk_nvme_ctrlr_get_regs_cap(ctrlr->spdk).bits.mqes + 1;
	info->num_io_queues = opts->num_io_queues;
	info->namespaces = spdk_nvme_ctrlr_get_num_ns(ctrlr->spdk);
	info->sgl = (flags & SPDK_NVME_CTRLR_SGL_SUPPORTED) != 0;
	info->wrr = (flags & SPDK_NVME_CTRLR_WRR_SUPPORTED) != 0;
	info->cmb_sqs = opts->use_cmb_sqs;
}

void
fs_ctrlr_identify(struct fs_ctrlr *ctrlr, uint8_t *data)
{
	memcpy(data, spdk_nvme_ctrlr_get_data(ctrlr->spdk), 4096);
}

static struct spdk_nvme_ns *
active_ns(struct fs_ctrlr *ctrlr, uint32_t nsid)
{
	struct spdk_nvme_ns *ns = spdk_nvme_ctrlr_get_ns(ctrlr->spdk, nsid);

	return ns != NULL && spdk_nvme_ns_is_active(ns) ? ns : NULL;
}

int
fs_ns_identify(struct fs_ctrlr *ctrlr, uint32_t nsid, uint8_t *data)
{
	struct spdk_nvme_ns *ns = active_ns(ctrlr, nsid);

	if (ns == NULL) {
		return -ENOENT;
	}
	memcpy(data, spdk_nvme_ns_get_data(ns), 4096);
	return 0;
}

int
fs_ns_info(struct fs_ctrlr *ctrlr, uint32_t nsid, struct fs_ns_info *info)
{
	struct spdk_nvme_ns *ns = active_ns(ctrlr, nsid);
	const uint8_t *identify;

	if (ns == NULL) {
		return -ENOENT;
	}
	/* Byte 29 is DPS: bits 0 to 2 the type, bit 3 the place (NVM Command Set 1.0, figure 97). */
	identify = (const uint8_t *)spdk_nvme_ns_get_data(ns);
	memset(info, 0, sizeof(*info));
	info->blocks = spdk_nvme_ns_get_num_sectors(ns);
	info->lba_bytes = spdk_nvme_ns_get_sector_size(ns);
	info->metadata_bytes = spdk_nvme_ns_get_md_size(ns);
	info->pi_type = info->metadata_bytes == 0 ? 0 : identify[29] & 7;
	info->stripe_blocks = spdk_nvme_ns_get_optimal_io_boundary(ns);
	info->extended = info->metadata_bytes != 0 && spdk_nvme_ns_supports_extended_lba(ns);
	info->pi_first = (identify[29] & 8) != 0;
	return 0;
}

struct fs_ns_identity
fs_identity_of(struct fs_ctrlr *ctrlr, uint32_t nsid)
{
	struct fs_ns_identity identity;
	struct spdk_nvme_ns *ns = active_ns(ctrlr, nsid);
	const uint8_t *data;

	memset(&identity, 0, sizeof(identity));
	if (ns != NULL) {
		data = (const uint8_t *)spdk_nvme_ns_get_data(ns);
		memcpy(identity.bytes, data, 8);
		memcpy(identity.bytes + 8, data + 104, 24);
	}
	return identity;
}

bool
fs_is_other_namespace(struct fs_ctrlr *ctrlr, uint32_t nsid, const struct fs_ns_identity *before)
{
	static const struct fs_ns_identity none;
	struct fs_ns_identity now = fs_identity_of(ctrlr, nsid);

	return memcmp(&now, &none, sizeof(now)) != 0 && memcmp(&now, before, sizeof(now)) != 0;
}

/* One admin command: waited for by whoever asked, completed on whichever thread polls. */
struct admin_call {
	atomic_int state;
	uint16_t status;
	uint32_t cdw0;
	void *memory;
};

enum { CALL_PENDING = 0, CALL_DONE = 1, CALL_LEFT = 2 };

static void
free_call(struct admin_call *call)
{
	if (call->memory != NULL) {
		spdk_dma_free(call->memory);
	}
	free(call);
}

static void
admin_done(void *arg, const struct spdk_nvme_cpl *cpl)
{
	struct admin_call *call = arg;

	call->status = cpl->status_raw >> 1;
	call->cdw0 = cpl->cdw0;
	if (atomic_exchange(&call->state, CALL_DONE) == CALL_LEFT) {
		free_call(call);
	}
}

/* Waits for the call; -ETIMEDOUT or -ENXIO leave it to its completion, which frees it. */
static int
await_call(struct fs_ctrlr *ctrlr, struct admin_call *call, uint64_t timeout_us)
{
	uint64_t end = now_us() + timeout_us;
	int rc = 0;

	while (atomic_load(&call->state) == CALL_PENDING && rc == 0) {
		if (spdk_nvme_ctrlr_process_admin_completions(ctrlr->spdk) < 0) {
			rc = -ENXIO;
		} else if (atomic_load(&call->state) != CALL_PENDING) {
			break;
		} else if (now_us() > end) {
			rc = -ETIMEDOUT;
		} else {
			usleep(ADMIN_POLL_US);
		}
	}
	if (rc != 0 && atomic_exchange(&call->state, CALL_LEFT) == CALL_DONE) {
		/* It came in the meantime. */
		atomic_store(&call->state, CALL_DONE);
		rc = 0;
	}
	return rc;
}

int
fs_ctrlr_admin(struct fs_ctrlr *ctrlr, const uint8_t *command, uint8_t *data, uint32_t len,
	       uint32_t direction, uint64_t timeout_us, uint32_t *cdw0, uint16_t *status)
{
	struct spdk_nvme_cmd cmd;
	struct admin_call *call;
	int rc;

	if (atomic_load(&ctrlr->failed)) {
		return -ENXIO;
	}
	call = calloc(1, sizeof(*call));
	if (call == NULL) {
		return -ENOMEM;
	}
	if (len > 0) {
		call->memory = spdk_dma_zmalloc(len, 4096, NULL);
		if (call->memory == NULL) {
			free(call);
			return -ENOMEM;
		}
		if (direction == FS_DIR_TO_DEVICE) {
			memcpy(call->memory, data, len);
		}
	}
	memcpy(&cmd, command, sizeof(cmd));
	rc = spdk_nvme_ctrlr_cmd_admin_raw(ctrlr->spdk, &cmd, call->memory, len, admin_done, call);
	if (rc != 0) {
		free_call(call);
		return rc;
	}
	rc = await_call(ctrlr, call, timeout_us);
	if (rc != 0) {
		return rc;
	}
	if (direction == FS_DIR_FROM_DEVICE && len > 0) {
		memcpy(data, call->memory, len);
	}
	*cdw0 = call->cdw0;
	*status = call->status;
	free_call(call);
	return 0;
}

bool
fs_ctrlr_answers(struct fs_ctrlr *ctrlr)
{
	uint8_t command[64] = { SPDK_NVME_OPC_GET_FEATURES };
	uint32_t cdw0;
	uint16_t status;

	/* Any status is an answer. */
	command[40] = FEATURE_NUMBER_OF_QUEUES;
	return fs_ctrlr_admin(ctrlr, command, NULL, 0, FS_DIR_NONE, ANSWER_US, &cdw0, &status) == 0;
}

int
fs_ctrlr_poll(struct fs_ctrlr *ctrlr)
{
	int32_t rc = spdk_nvme_ctrlr_process_admin_completions(ctrlr->spdk);

	return rc < 0 ? rc : 0;
}

void
fs_ctrlr_health(struct fs_ctrlr *ctrlr, struct fs_ctrlr_health *health)
{
	memset(health, 0, sizeof(*health));
	health->failed = atomic_load(&ctrlr->failed) || spdk_nvme_ctrlr_is_failed(ctrlr->spdk);
	if (!fs_is_fabric(ctrlr) && !health->failed) {
		health->csts = spdk_nvme_ctrlr_get_regs_csts(ctrlr->spdk).raw;
	}
	health->timeouts = atomic_load(&ctrlr->timeouts);
	health->aborts = atomic_load(&ctrlr->aborts);
	health->failed_aborts = atomic_load(&ctrlr->failed_aborts);
	health->wants_reset = atomic_load(&ctrlr->wants_reset);
	health->wants_fail = atomic_load(&ctrlr->wants_fail);
	health->replaced = atomic_load(&ctrlr->replaced);
}

uint32_t
fs_ctrlr_events(struct fs_ctrlr *ctrlr, uint32_t *events, uint32_t max)
{
	uint32_t count;

	pthread_mutex_lock(&ctrlr->events_lock);
	count = ctrlr->event_count < max ? ctrlr->event_count : max;
	memcpy(events, ctrlr->events, count * sizeof(*events));
	memmove(ctrlr->events, ctrlr->events + count, (ctrlr->event_count - count) * sizeof(*events));
	ctrlr->event_count -= count;
	pthread_mutex_unlock(&ctrlr->events_lock);
	return count;
}

void
fs_ctrlr_fail(struct fs_ctrlr *ctrlr)
{
	if (!atomic_exchange(&ctrlr->failed, true)) {
		spdk_nvme_ctrlr_fail(ctrlr->spdk);
	}
}

/* Whether another drive is at the address: SPDK has identified it again in the reset. */
static bool
is_replaced(struct fs_ctrlr *ctrlr)
{
	const uint8_t *data = (const uint8_t *)spdk_nvme_ctrlr_get_data(ctrlr->spdk);

	return memcmp(ctrlr->identity, data + FS_IDENTITY_AT, FS_IDENTITY_BYTES) != 0;
}

int
fs_ctrlr_reset(struct fs_ctrlr *ctrlr)
{
	unsigned int epoch;
	uint64_t end;
	int rc;

	if (atomic_exchange(&ctrlr->resetting, true)) {
		return -EBUSY;
	}
	/* Nobody has seen this epoch yet; who saw an older one does not count for it. */
	epoch = atomic_load(&ctrlr->epoch) + 1;
	atomic_store(&ctrlr->parked, (uint64_t)epoch << 32);
	atomic_store(&ctrlr->epoch, epoch);
	/* SPDK resets while nobody uses the controller. A queue that nobody polls does not answer, and is
	 * not used either. */
	end = now_us() + PARK_US;
	while ((uint32_t)atomic_load(&ctrlr->parked) < atomic_load(&ctrlr->pairs) && now_us() < end) {
		usleep(ADMIN_POLL_US);
	}
	rc = spdk_nvme_ctrlr_reset(ctrlr->spdk);
	/* Before any queue pair is made again: nothing is sent to a drive that was not attached. */
	if (rc == 0 && is_replaced(ctrlr)) {
		atomic_store(&ctrlr->replaced, true);
		rc = -ESTALE;
	}
	if (rc != 0) {
		fs_ctrlr_fail(ctrlr);
	}
	atomic_store(&ctrlr->wants_reset, false);
	atomic_store(&ctrlr->epoch, epoch + 1);
	atomic_store(&ctrlr->resetting, false);
	return rc;
}
