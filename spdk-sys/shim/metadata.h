/* Metadata that the host supplies, and protection information in it. */
#ifndef FIO_SPDK_METADATA_H
#define FIO_SPDK_METADATA_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes of protection information with a 16-bit guard (NVM Command Set 1.0, 5.2.1). */
enum { FS_PI_BYTES = 8 };

struct fs_layout {
	uint32_t lba_bytes;
	uint32_t metadata_bytes;
	/* 0 to 3. */
	uint32_t pi_type;
	bool extended;
	bool pi_first;
	/* What is checked of what was read: FS_FLAG_PRCHK_*. */
	uint32_t check;
	uint16_t apptag;
	uint16_t apptag_mask;
};

/* Bytes of host memory that an I/O of so many bytes of data needs besides its buffer. */
uint64_t fs_metadata_bytes(const struct fs_layout *layout, uint32_t data_bytes);

/* Prepares `memory` for a write of `blocks` from `lba`: copies the data between its metadata where they
 * lie together, clears the metadata, and seals it where there is protection information. */
void fs_metadata_seal(const struct fs_layout *layout, uint8_t *memory, const uint8_t *data, uint64_t lba,
		      uint32_t blocks);

/* Takes the data out of what was read, and checks the protection information. Returns 0, or SCT and SC
 * (SCT in bits 8 to 10) of the status that the controller would have given. */
uint16_t fs_metadata_open(const struct fs_layout *layout, const uint8_t *memory, uint8_t *data,
			  uint64_t lba, uint32_t blocks);

#endif
