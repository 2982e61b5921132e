/* What commands do to a namespace. */
#include "internal.h"
#include "spdk/crc16.h"

/* The parts of one block: of the command's buffers, and of the namespace. */
struct parts {
	uint8_t *data;
	uint8_t *metadata;
	uint8_t *stored;
	uint8_t *stored_metadata;
	uint8_t *bad;
};

/* Whether the controller makes and strips all of the metadata. */
static bool
strips(const struct shape *shape, const struct command *command)
{
	return shape->pi_type != 0 && shape->metadata_bytes == 8 && (command->flags & SPDK_NVME_IO_FLAGS_PRACT) != 0;
}

static struct parts
parts_of(const struct shape *shape, struct store *store, const struct command *command, uint32_t index)
{
	uint64_t lba = command->lba + index;
	uint32_t md = strips(shape, command) ? 0 : shape->metadata_bytes;
	struct parts parts;

	parts.stored = store->data + lba * shape->lba_bytes;
	parts.stored_metadata = store->metadata + lba * shape->metadata_bytes;
	parts.bad = &store->bad[lba];
	parts.data = NULL;
	parts.metadata = NULL;
	if (command->data == NULL) {
		return parts;
	}
	if (shape->extended) {
		parts.data = command->data + (size_t)index * (shape->lba_bytes + md);
		parts.metadata = md == 0 ? NULL : parts.data + shape->lba_bytes;
	} else {
		parts.data = command->data + (size_t)index * shape->lba_bytes;
		parts.metadata = md == 0 || command->metadata == NULL ? NULL : command->metadata + (size_t)index * md;
	}
	return parts;
}

static uint32_t
pi_at(const struct shape *shape)
{
	return shape->pi_first ? 0 : shape->metadata_bytes - 8;
}

static uint16_t
guard_of(const struct shape *shape, const uint8_t *data, const uint8_t *metadata)
{
	uint16_t crc = spdk_crc16_t10dif(0, data, shape->lba_bytes);

	return spdk_crc16_t10dif(crc, metadata, pi_at(shape));
}

/* What the controller checks of protection information (NVM Command Set 1.0, 5.2). */
static uint16_t
check(const struct shape *shape, const struct command *command, const uint8_t *data, const uint8_t *metadata,
      uint64_t lba)
{
	const uint8_t *pi = metadata + (shape->pi_type == 0 ? 0 : pi_at(shape));
	uint16_t apptag;

	if (shape->pi_type == 0) {
		return 0;
	}
	apptag = (uint16_t)(pi[2] << 8 | pi[3]);
	if (apptag == 0xffff && (shape->pi_type != 3 || memcmp(pi + 4, "\xff\xff\xff\xff", 4) == 0)) {
		return 0;
	}
	if ((command->flags & SPDK_NVME_IO_FLAGS_PRCHK_GUARD) != 0
	    && (uint16_t)(pi[0] << 8 | pi[1]) != guard_of(shape, data, metadata)) {
		return GUARD_CHECK;
	}
	if ((command->flags & SPDK_NVME_IO_FLAGS_PRCHK_APPTAG) != 0
	    && ((apptag ^ command->apptag) & command->apptag_mask) != 0) {
		return APPTAG_CHECK;
	}
	if ((command->flags & SPDK_NVME_IO_FLAGS_PRCHK_REFTAG) != 0 && shape->pi_type != 3
	    && ((uint32_t)pi[4] << 24 | (uint32_t)pi[5] << 16 | (uint32_t)pi[6] << 8 | pi[7]) != (uint32_t)lba) {
		return REFTAG_CHECK;
	}
	return 0;
}

/* Protection information as the controller makes it. */
static void
seal(const struct shape *shape, const struct command *command, const struct parts *parts, uint64_t lba)
{
	uint8_t *pi = parts->stored_metadata + pi_at(shape);
	uint16_t guard = guard_of(shape, parts->stored, parts->stored_metadata);
	uint8_t made[8] = { (uint8_t)(guard >> 8), (uint8_t)guard, (uint8_t)(command->apptag >> 8),
			    (uint8_t)command->apptag, (uint8_t)(lba >> 24), (uint8_t)(lba >> 16), (uint8_t)(lba >> 8),
			    (uint8_t)lba };

	memcpy(pi, made, sizeof(made));
}

static uint16_t
write_block(const struct shape *shape, const struct command *command, const struct parts *parts, uint64_t lba)
{
	bool makes = shape->pi_type != 0 && (command->flags & SPDK_NVME_IO_FLAGS_PRACT) != 0;
	uint16_t status = 0;

	if (parts->metadata != NULL && !makes) {
		status = check(shape, command, parts->data, parts->metadata, lba);
	}
	if (status != 0) {
		return status;
	}
	*parts->bad = 0;
	memcpy(parts->stored, parts->data, shape->lba_bytes);
	if (parts->metadata != NULL) {
		memcpy(parts->stored_metadata, parts->metadata, shape->metadata_bytes);
	}
	if (makes) {
		seal(shape, command, parts, lba);
	}
	return 0;
}

static uint16_t
read_block(const struct shape *shape, const struct command *command, const struct parts *parts, uint64_t lba)
{
	if (*parts->bad != 0) {
		return UNRECOVERED_READ;
	}
	if (parts->data != NULL && command->kind == READ) {
		memcpy(parts->data, parts->stored, shape->lba_bytes);
		if (parts->metadata != NULL) {
			memcpy(parts->metadata, parts->stored_metadata, shape->metadata_bytes);
		}
	} else if (command->kind == COMPARE && memcmp(parts->data, parts->stored, shape->lba_bytes) != 0) {
		return COMPARE_FAILURE;
	}
	return check(shape, command, parts->stored, parts->stored_metadata, lba);
}

/* No data, and metadata that says that nothing is to be checked. */
static void
clear_block(const struct shape *shape, const struct parts *parts)
{
	*parts->bad = 0;
	memset(parts->stored, 0, shape->lba_bytes);
	memset(parts->stored_metadata, shape->pi_type == 0 ? 0 : 0xff, shape->metadata_bytes);
}

static uint16_t
block(const struct shape *shape, struct store *store, const struct command *command, uint32_t index)
{
	struct parts parts = parts_of(shape, store, command, index);
	uint64_t lba = command->lba + index;

	switch (command->kind) {
	case READ:
	case COMPARE:
	case VERIFY:
		return read_block(shape, command, &parts, lba);
	case WRITE:
		return write_block(shape, command, &parts, lba);
	case WRITE_UNCORRECTABLE:
		*parts.bad = 1;
		return 0;
	default:
		clear_block(shape, &parts);
		return 0;
	}
}

static uint16_t
run_blocks(struct fake_drive *drive, struct store *store, const struct command *command)
{
	uint16_t status = 0;

	if (command->lba >= drive->shape.blocks || command->blocks > drive->shape.blocks - command->lba) {
		return LBA_OUT_OF_RANGE;
	}
	for (uint32_t index = 0; index < command->blocks && status == 0; index++) {
		status = block(&drive->shape, store, command, index);
	}
	return status;
}

static uint16_t
deallocate(struct fake_drive *drive, struct store *store, const struct command *command)
{
	uint64_t *most = &drive->knobs[FAKE_MOST_RANGES];
	struct command clear = *command;
	uint16_t status = 0;

	if (drive->shape.most_ranges != 0 && command->ranges > drive->shape.most_ranges) {
		return SIZE_LIMIT_EXCEEDED;
	}
	*most = command->ranges > *most ? command->ranges : *most;
	clear.data = NULL;
	for (uint32_t index = 0; index < command->ranges && status == 0; index++) {
		struct spdk_nvme_dsm_range range;

		memcpy(&range, command->data + index * sizeof(range), sizeof(range));
		clear.lba = range.starting_lba;
		clear.blocks = range.length;
		status = range.attributes == 0 ? run_blocks(drive, store, &clear) : INVALID_FIELD;
	}
	return status;
}

uint16_t
fake_execute(struct fake_drive *drive, const struct command *command)
{
	struct store *store = &drive->stores[command->nsid - 1];

	if (store->removed) {
		return INVALID_NAMESPACE;
	}
	if (command->kind == FLUSH) {
		return 0;
	}
	if (command->kind == DEALLOCATE) {
		return deallocate(drive, store, command);
	}
	return run_blocks(drive, store, command);
}
