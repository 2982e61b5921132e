/* Metadata that the host supplies, and protection information in it. */
#include "metadata.h"

#include <string.h>

#include "fio_spdk.h"
#include "spdk/crc16.h"

/* Status code type 2h, "Media and Data Integrity Errors". */
enum {
	GUARD_FAILED = 0x282,
	APPTAG_FAILED = 0x283,
	REFTAG_FAILED = 0x284,
};

struct block {
	uint8_t *data;
	uint8_t *metadata;
	uint8_t *pi;
};

static struct block
block_at(const struct fs_layout *layout, uint8_t *memory, uint8_t *data, uint32_t index)
{
	struct block block;
	uint32_t md = layout->metadata_bytes;

	if (layout->extended) {
		block.data = memory + (size_t)index * (layout->lba_bytes + md);
		block.metadata = block.data + layout->lba_bytes;
	} else {
		block.data = data + (size_t)index * layout->lba_bytes;
		block.metadata = memory + (size_t)index * md;
	}
	block.pi = block.metadata + (layout->pi_first ? 0 : md - FS_PI_BYTES);
	return block;
}

/* Of the data, and of the metadata in front of the protection information. */
static uint16_t
guard(const struct fs_layout *layout, const struct block *block)
{
	uint16_t crc = spdk_crc16_t10dif(0, block->data, layout->lba_bytes);

	if (block->pi != block->metadata) {
		crc = spdk_crc16_t10dif(crc, block->metadata, (size_t)(block->pi - block->metadata));
	}
	return crc;
}

static bool
has_pi(const struct fs_layout *layout)
{
	return layout->pi_type != 0 && layout->metadata_bytes >= FS_PI_BYTES;
}

static void
put(uint8_t *to, uint64_t value, uint32_t bytes)
{
	while (bytes > 0) {
		*to++ = (uint8_t)(value >> (8 * --bytes));
	}
}

static uint64_t
get(const uint8_t *from, uint32_t bytes)
{
	uint64_t value = 0;

	while (bytes-- > 0) {
		value = value << 8 | *from++;
	}
	return value;
}

uint64_t
fs_metadata_bytes(const struct fs_layout *layout, uint32_t data_bytes)
{
	uint64_t blocks = data_bytes / layout->lba_bytes;

	return blocks * (layout->metadata_bytes + (layout->extended ? layout->lba_bytes : 0));
}

void
fs_metadata_seal(const struct fs_layout *layout, uint8_t *memory, const uint8_t *data, uint64_t lba,
		 uint32_t blocks)
{
	for (uint32_t index = 0; index < blocks; index++) {
		/* Written through only where the data lies in `memory`. */
		struct block block = block_at(layout, memory, (uint8_t *)(uintptr_t)data, index);

		if (layout->extended) {
			memcpy(block.data, data + (size_t)index * layout->lba_bytes, layout->lba_bytes);
		}
		memset(block.metadata, 0, layout->metadata_bytes);
		if (has_pi(layout)) {
			put(block.pi, guard(layout, &block), 2);
			put(block.pi + 2, layout->apptag, 2);
			put(block.pi + 4, layout->pi_type == 3 ? 0 : (uint32_t)(lba + index), 4);
		}
	}
}

/* Whether the tags say that nothing is to be checked (NVM Command Set 1.0, 5.2.3). */
static bool
is_escaped(const struct fs_layout *layout, const struct block *block)
{
	bool apptag = get(block->pi + 2, 2) == 0xffff;

	return layout->pi_type == 3 ? apptag && get(block->pi + 4, 4) == 0xffffffff : apptag;
}

static uint16_t
check(const struct fs_layout *layout, const struct block *block, uint64_t lba)
{
	uint16_t mask = layout->apptag_mask;

	if (is_escaped(layout, block)) {
		return 0;
	}
	if ((layout->check & FS_FLAG_PRCHK_GUARD) != 0 && get(block->pi, 2) != guard(layout, block)) {
		return GUARD_FAILED;
	}
	if ((layout->check & FS_FLAG_PRCHK_APPTAG) != 0
	    && (get(block->pi + 2, 2) & mask) != (layout->apptag & mask)) {
		return APPTAG_FAILED;
	}
	if ((layout->check & FS_FLAG_PRCHK_REFTAG) != 0 && layout->pi_type != 3
	    && get(block->pi + 4, 4) != (uint32_t)lba) {
		return REFTAG_FAILED;
	}
	return 0;
}

uint16_t
fs_metadata_open(const struct fs_layout *layout, const uint8_t *memory, uint8_t *data, uint64_t lba,
		 uint32_t blocks)
{
	uint16_t status = 0;

	for (uint32_t index = 0; index < blocks; index++) {
		/* Only read through. */
		struct block block = block_at(layout, (uint8_t *)(uintptr_t)memory, data, index);

		if (layout->extended) {
			memcpy(data + (size_t)index * layout->lba_bytes, block.data, layout->lba_bytes);
		}
		if (status == 0 && has_pi(layout)) {
			status = check(layout, &block, lba + index);
		}
	}
	return status;
}
