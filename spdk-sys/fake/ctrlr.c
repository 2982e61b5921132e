/* Controllers: attaching, the admin queue, events, reset and the end. */
#include "internal.h"

enum { GET_LOG_PAGE = 0x02, IDENTIFY = 0x06, SET_FEATURES = 0x09, GET_FEATURES = 0x0a, ABORT = 0x08 };

void
spdk_nvme_ctrlr_get_default_ctrlr_opts(struct spdk_nvme_ctrlr_opts *opts, size_t opts_size)
{
	memset(opts, 0, opts_size);
	opts->num_io_queues = 1024;
	opts->keep_alive_timeout_ms = 10000;
}

struct spdk_nvme_ctrlr *
spdk_nvme_connect(const struct spdk_nvme_transport_id *trid, const struct spdk_nvme_ctrlr_opts *opts,
		  size_t opts_size)
{
	char id[700];
	struct fake_drive *drive;
	struct spdk_nvme_ctrlr *ctrlr;

	(void)opts_size;
	if (strstr(trid->traddr, "missing") != NULL) {
		fake_log(0, "made-up SPDK: there is no such controller");
		return NULL;
	}
	snprintf(id, sizeof(id), "trtype:%s traddr:%s%s%s%s%s",
		 trid->trtype == SPDK_NVME_TRANSPORT_PCIE       ? "PCIe"
		 : trid->trtype == SPDK_NVME_TRANSPORT_TCP      ? "TCP"
		 : trid->trtype == SPDK_NVME_TRANSPORT_VFIOUSER ? "VFIOUSER"
								: "RDMA",
		 trid->traddr, trid->trsvcid[0] == '\0' ? "" : " trsvcid:", trid->trsvcid,
		 trid->subnqn[0] == '\0' ? "" : " subnqn:", trid->subnqn);
	drive = fake_drive(id);
	if (drive == NULL || fake_get(drive, FAKE_DEATH) != FAKE_ALIVE) {
		fake_log(0, "made-up SPDK: the controller does not come up");
		return NULL;
	}
	pthread_mutex_lock(&drive->lock);
	if (drive->ctrlrs == NULL) {
		fake_swap_if_asked(drive);
	}
	pthread_mutex_unlock(&drive->lock);
	ctrlr = calloc(1, sizeof(*ctrlr));
	ctrlr->drive = drive;
	ctrlr->opts = *opts;
	if (ctrlr->opts.num_io_queues > drive->shape.queues) {
		ctrlr->opts.num_io_queues = drive->shape.queues;
	}
	for (uint32_t at = 0; at < MOST_NAMESPACES; at++) {
		ctrlr->namespaces[at].ctrlr = ctrlr;
		ctrlr->namespaces[at].nsid = at + 1;
	}
	pthread_mutex_lock(&drive->lock);
	ctrlr->next = drive->ctrlrs;
	drive->ctrlrs = ctrlr;
	pthread_mutex_unlock(&drive->lock);
	return ctrlr;
}

/* Whether SPDK would wait for an admin command that is never answered. */
static bool
is_mute(struct spdk_nvme_ctrlr *ctrlr)
{
	uint64_t *knobs = ctrlr->drive->knobs;

	return !ctrlr->failed && (knobs[FAKE_DEATH] == FAKE_SILENT || knobs[FAKE_ADMIN_SILENT] != 0);
}

int
spdk_nvme_detach(struct spdk_nvme_ctrlr *ctrlr)
{
	struct fake_drive *drive = ctrlr->drive;
	struct spdk_nvme_ctrlr **at;

	pthread_mutex_lock(&drive->lock);
	if (is_mute(ctrlr)) {
		fake_misuse(drive, "detaching would wait for ever");
	}
	if (ctrlr->pairs != NULL) {
		fake_misuse(drive, "a controller was detached with queue pairs left");
	}
	fake_complete_admin(ctrlr, ABORTED_QUEUE_DELETED);
	drive->knobs[FAKE_SHUTDOWNS] += ctrlr->failed ? 0 : 1;
	for (at = &drive->ctrlrs; *at != ctrlr; at = &(*at)->next) {
	}
	*at = ctrlr->next;
	pthread_mutex_unlock(&drive->lock);
	free(ctrlr);
	return 0;
}

void
spdk_nvme_ctrlr_fail(struct spdk_nvme_ctrlr *ctrlr)
{
	pthread_mutex_lock(&ctrlr->drive->lock);
	ctrlr->failed = true;
	fake_complete_admin(ctrlr, ABORTED_QUEUE_DELETED);
	pthread_mutex_unlock(&ctrlr->drive->lock);
}

int
spdk_nvme_ctrlr_reset(struct spdk_nvme_ctrlr *ctrlr)
{
	struct fake_drive *drive = ctrlr->drive;
	bool up;

	pthread_mutex_lock(&drive->lock);
	if (ctrlr->failed || drive->knobs[FAKE_DEATH] != FAKE_ALIVE) {
		pthread_mutex_unlock(&drive->lock);
		return -1;
	}
	ctrlr->resetting = true;
	for (struct spdk_nvme_qpair *pair = ctrlr->pairs; pair != NULL; pair = pair->next) {
		pair->connected = false;
		if (pair->users > 0) {
			fake_misuse(drive, "a reset began while a queue pair was in use");
		}
	}
	fake_complete_admin(ctrlr, ABORTED_QUEUE_DELETED);
	pthread_mutex_unlock(&drive->lock);
	usleep((useconds_t)drive->knobs[FAKE_RESET_US]);
	pthread_mutex_lock(&drive->lock);
	ctrlr->resetting = false;
	drive->knobs[FAKE_RESETS]++;
	fake_swap_if_asked(drive);
	up = drive->knobs[FAKE_RESET_FAILS] == 0 && drive->knobs[FAKE_DEATH] == FAKE_ALIVE;
	ctrlr->failed = ctrlr->failed || !up;
	pthread_mutex_unlock(&drive->lock);
	return up ? 0 : -1;
}

bool
spdk_nvme_ctrlr_is_failed(struct spdk_nvme_ctrlr *ctrlr)
{
	bool failed;

	pthread_mutex_lock(&ctrlr->drive->lock);
	failed = ctrlr->failed;
	pthread_mutex_unlock(&ctrlr->drive->lock);
	return failed;
}

const struct spdk_nvme_ctrlr_opts *
spdk_nvme_ctrlr_get_opts(struct spdk_nvme_ctrlr *ctrlr)
{
	return &ctrlr->opts;
}

const struct spdk_nvme_ctrlr_data *
spdk_nvme_ctrlr_get_data(struct spdk_nvme_ctrlr *ctrlr)
{
	return &ctrlr->drive->identify;
}

union spdk_nvme_csts_register
spdk_nvme_ctrlr_get_regs_csts(struct spdk_nvme_ctrlr *ctrlr)
{
	union spdk_nvme_csts_register csts;
	bool silent = fake_get(ctrlr->drive, FAKE_DEATH) == FAKE_SILENT;

	csts.raw = silent ? 0xffffffff : (uint32_t)fake_get(ctrlr->drive, FAKE_CSTS);
	return csts;
}

union spdk_nvme_cap_register
spdk_nvme_ctrlr_get_regs_cap(struct spdk_nvme_ctrlr *ctrlr)
{
	union spdk_nvme_cap_register cap = { .raw = 0 };

	cap.bits.mqes = (ctrlr->drive->shape.entries - 1) & 0xffff;
	return cap;
}

uint64_t
spdk_nvme_ctrlr_get_flags(struct spdk_nvme_ctrlr *ctrlr)
{
	(void)ctrlr;
	return SPDK_NVME_CTRLR_SGL_SUPPORTED | SPDK_NVME_CTRLR_WRR_SUPPORTED;
}

uint32_t
spdk_nvme_ctrlr_get_num_ns(struct spdk_nvme_ctrlr *ctrlr)
{
	return ctrlr->drive->shape.namespaces;
}

uint32_t
spdk_nvme_ctrlr_get_max_xfer_size(const struct spdk_nvme_ctrlr *ctrlr)
{
	return ctrlr->drive->shape.max_transfer;
}

struct spdk_nvme_ns *
spdk_nvme_ctrlr_get_ns(struct spdk_nvme_ctrlr *ctrlr, uint32_t ns_id)
{
	return ns_id >= 1 && ns_id <= ctrlr->drive->shape.namespaces ? &ctrlr->namespaces[ns_id - 1] : NULL;
}

const struct spdk_nvme_ns_data *
spdk_nvme_ns_get_data(struct spdk_nvme_ns *ns)
{
	return &ns->ctrlr->drive->identify_ns;
}

bool
spdk_nvme_ns_is_active(struct spdk_nvme_ns *ns)
{
	bool active;

	pthread_mutex_lock(&ns->ctrlr->drive->lock);
	active = !ns->ctrlr->drive->stores[ns->nsid - 1].removed;
	pthread_mutex_unlock(&ns->ctrlr->drive->lock);
	return active;
}

uint32_t
spdk_nvme_ns_get_sector_size(struct spdk_nvme_ns *ns)
{
	return ns->ctrlr->drive->shape.lba_bytes;
}

uint32_t
spdk_nvme_ns_get_optimal_io_boundary(struct spdk_nvme_ns *ns)
{
	return ns->ctrlr->drive->shape.stripe_blocks;
}

uint64_t
spdk_nvme_ns_get_num_sectors(struct spdk_nvme_ns *ns)
{
	return ns->ctrlr->drive->shape.blocks;
}

uint32_t
spdk_nvme_ns_get_md_size(struct spdk_nvme_ns *ns)
{
	return ns->ctrlr->drive->shape.metadata_bytes;
}

bool
spdk_nvme_ns_supports_extended_lba(struct spdk_nvme_ns *ns)
{
	return ns->ctrlr->drive->shape.extended;
}

void
spdk_nvme_ctrlr_register_aer_callback(struct spdk_nvme_ctrlr *ctrlr, spdk_nvme_aer_cb aer_cb_fn,
				      void *aer_cb_arg)
{
	ctrlr->aer = aer_cb_fn;
	ctrlr->aer_arg = aer_cb_arg;
}

void
spdk_nvme_ctrlr_register_timeout_callback(struct spdk_nvme_ctrlr *ctrlr, uint64_t timeout_io_us,
		uint64_t timeout_admin_us, spdk_nvme_timeout_cb cb_fn, void *cb_arg)
{
	(void)timeout_admin_us;
	ctrlr->timeout_us = timeout_io_us;
	ctrlr->timed_out = cb_fn;
	ctrlr->timed_out_arg = cb_arg;
}

static int
enqueue(struct spdk_nvme_ctrlr *ctrlr, const struct admin *admin)
{
	int rc = 0;

	pthread_mutex_lock(&ctrlr->drive->lock);
	if (ctrlr->failed || ctrlr->resetting || ctrlr->drive->knobs[FAKE_DEATH] == FAKE_DISCONNECTED) {
		rc = -ENXIO;
	} else if (ctrlr->admin_count == MOST_ADMIN) {
		rc = -ENOMEM;
	} else {
		ctrlr->admin[ctrlr->admin_count++] = *admin;
	}
	pthread_mutex_unlock(&ctrlr->drive->lock);
	return rc;
}

int
spdk_nvme_ctrlr_cmd_admin_raw(struct spdk_nvme_ctrlr *ctrlr, struct spdk_nvme_cmd *cmd, void *buf,
			      uint32_t len, spdk_nvme_cmd_cb cb_fn, void *cb_arg)
{
	struct admin admin = { .cmd = *cmd, .data = buf, .len = len, .done = cb_fn, .arg = cb_arg };

	return enqueue(ctrlr, &admin);
}

int
spdk_nvme_ctrlr_cmd_abort(struct spdk_nvme_ctrlr *ctrlr, struct spdk_nvme_qpair *qpair, uint16_t cid,
			  spdk_nvme_cmd_cb cb_fn, void *cb_arg)
{
	struct admin admin = { .done = cb_fn, .arg = cb_arg, .victim = qpair, .victim_cid = cid };

	admin.cmd.opc = ABORT;
	return enqueue(ctrlr, &admin);
}

/* Bit 0 of the result: not aborted (NVMe Base 2.0, 5.1). */
static uint32_t
abort_command(struct spdk_nvme_ctrlr *ctrlr, const struct admin *admin)
{
	struct spdk_nvme_qpair *pair = ctrlr->pairs;

	while (pair != NULL && pair != admin->victim) {
		pair = pair->next;
	}
	if (pair == NULL || ctrlr->drive->knobs[FAKE_ABORTS_FAIL] != 0 || !pair->slots[admin->victim_cid].busy) {
		return 1;
	}
	pair->slots[admin->victim_cid].stuck = false;
	pair->slots[admin->victim_cid].forced = ABORTED_BY_REQUEST | 0x8000;
	return 0;
}

static void
fill_health(struct fake_drive *drive, uint8_t *log, uint32_t len)
{
	uint8_t page[512] = { 0 };
	uint64_t commands = drive->knobs[FAKE_COMMANDS];

	/* 300 kelvin; spare 100 % of a threshold of 10 %; host commands (NVMe Base 2.0, figure 207). */
	page[1] = 300 & 0xff;
	page[2] = 300 >> 8;
	page[3] = 100;
	page[4] = 10;
	memcpy(page + 64, &commands, sizeof(commands));
	memset(log, 0, len);
	memcpy(log, page, len < sizeof(page) ? len : sizeof(page));
}

static uint16_t
feature(struct spdk_nvme_ctrlr *ctrlr, const struct admin *admin, uint32_t *cdw0)
{
	struct fake_drive *drive = ctrlr->drive;
	bool sets = admin->cmd.opc == SET_FEATURES;

	switch (admin->cmd.cdw10 & 0xff) {
	case 0x06:
		if (!drive->shape.volatile_cache) {
			return INVALID_FIELD;
		}
		drive->cache_feature = sets ? admin->cmd.cdw11 & 1 : drive->cache_feature;
		*cdw0 = drive->cache_feature;
		return 0;
	case 0x07:
		*cdw0 = (drive->shape.queues - 1) | (drive->shape.queues - 1) << 16;
		return 0;
	default:
		return INVALID_FIELD;
	}
}

/* What there is of the NVM command set alone (NVM Command Set 1.0, 4.1.5.4): DMRL in byte 3. */
static uint16_t
identify(struct fake_drive *drive, const struct admin *admin)
{
	if (admin->cmd.cdw10 != 0x06 || drive->shape.most_ranges == 0 || admin->len != 4096) {
		return INVALID_FIELD;
	}
	memset(admin->data, 0, admin->len);
	admin->data[3] = (uint8_t)drive->shape.most_ranges;
	return 0;
}

static void
run_admin(struct spdk_nvme_ctrlr *ctrlr, const struct admin *admin)
{
	uint32_t cdw0 = 0;
	uint16_t status = 0;

	switch (admin->cmd.opc) {
	case ABORT:
		cdw0 = abort_command(ctrlr, admin);
		break;
	case GET_LOG_PAGE:
		if ((admin->cmd.cdw10 & 0xff) == 0x02) {
			fill_health(ctrlr->drive, admin->data, admin->len);
		} else {
			status = INVALID_LOG_PAGE;
		}
		break;
	case IDENTIFY:
		status = identify(ctrlr->drive, admin);
		break;
	case SET_FEATURES:
	case GET_FEATURES:
		status = feature(ctrlr, admin, &cdw0);
		break;
	default:
		status = INVALID_OPCODE;
		break;
	}
	fake_call(admin->done, admin->arg, 0, status, cdw0);
}

static struct admin
next_admin(struct spdk_nvme_ctrlr *ctrlr)
{
	struct admin first = ctrlr->admin[0];

	memmove(ctrlr->admin, ctrlr->admin + 1, --ctrlr->admin_count * sizeof(first));
	return first;
}

void
fake_complete_admin(struct spdk_nvme_ctrlr *ctrlr, uint16_t status)
{
	while (ctrlr->admin_count > 0) {
		struct admin admin = next_admin(ctrlr);

		fake_call(admin.done, admin.arg, 0, status, 0);
	}
}

int32_t
spdk_nvme_ctrlr_process_admin_completions(struct spdk_nvme_ctrlr *ctrlr)
{
	struct fake_drive *drive = ctrlr->drive;
	struct spdk_nvme_cpl cpl;
	int32_t rc = 0;

	pthread_mutex_lock(&drive->lock);
	if (ctrlr->failed || drive->knobs[FAKE_DEATH] == FAKE_DISCONNECTED) {
		fake_complete_admin(ctrlr, ABORTED_QUEUE_DELETED);
		rc = -ENXIO;
	} else if (!is_mute(ctrlr)) {
		while (ctrlr->admin_count > 0) {
			struct admin admin = next_admin(ctrlr);

			run_admin(ctrlr, &admin);
			rc++;
		}
		for (uint32_t at = 0; at < ctrlr->event_count && ctrlr->aer != NULL; at++) {
			memset(&cpl, 0, sizeof(cpl));
			cpl.cdw0 = ctrlr->events[at];
			ctrlr->aer(ctrlr->aer_arg, &cpl);
		}
		ctrlr->event_count = 0;
	}
	pthread_mutex_unlock(&drive->lock);
	return rc;
}
