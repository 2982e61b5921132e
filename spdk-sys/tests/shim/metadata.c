/* Metadata of the host's and protection information in it. */
#include "bench.h"
#include "metadata.h"
#include "spdk/crc16.h"

enum { LBA = 512, BLOCKS = 4, GUARD = 0x282, APPTAG = 0x283, REFTAG = 0x284 };

static void
guards_are_those_of_t10(void)
{
	uint8_t bytes[32];

	/* The check value of CRC-16/T10-DIF, then zeros, ones, and counting bytes. */
	CHECK_EQ(spdk_crc16_t10dif(0, "123456789", 9), 0xd0db);
	memset(bytes, 0, sizeof(bytes));
	CHECK_EQ(spdk_crc16_t10dif(0, bytes, 32), 0);
	memset(bytes, 0xff, sizeof(bytes));
	CHECK_EQ(spdk_crc16_t10dif(0, bytes, 32), 0xa293);
	for (uint32_t at = 0; at < 32; at++) {
		bytes[at] = (uint8_t)at;
	}
	CHECK_EQ(spdk_crc16_t10dif(0, bytes, 32), 0x0224);
}

static struct fs_layout
layout_of(bool extended, bool pi_first, uint32_t metadata_bytes)
{
	struct fs_layout layout = {
		.lba_bytes = LBA,
		.metadata_bytes = metadata_bytes,
		.pi_type = 1,
		.extended = extended,
		.pi_first = pi_first,
		.check = FS_FLAG_PRCHK_GUARD | FS_FLAG_PRCHK_APPTAG | FS_FLAG_PRCHK_REFTAG,
		.apptag = 0x1234,
		.apptag_mask = 0xffff,
	};

	return layout;
}

/* The protection information of one LBA, as the specification places it. */
static uint8_t *
pi_of(const struct fs_layout *layout, uint8_t *memory, uint32_t index)
{
	uint8_t *metadata = layout->extended ? memory + (size_t)index * (LBA + layout->metadata_bytes) + LBA
					     : memory + (size_t)index * layout->metadata_bytes;

	return metadata + (layout->pi_first ? 0 : layout->metadata_bytes - 8);
}

static void
seals_open_and_broken_seals_do_not(const struct fs_layout *layout)
{
	uint64_t bytes = fs_metadata_bytes(layout, LBA * BLOCKS);
	uint8_t *memory = malloc(bytes), *data = malloc(LBA * BLOCKS), *back = malloc(LBA * BLOCKS);
	/* Its low 32 bits are the reference tag. */
	uint64_t lba = 0x1fffffffeULL;

	CHECK_EQ(bytes, BLOCKS * (layout->metadata_bytes + (layout->extended ? LBA : 0)));
	for (uint32_t at = 0; at < LBA * BLOCKS; at++) {
		data[at] = (uint8_t)(at * 7 + at / 256);
	}
	memset(memory, 0xcc, bytes);
	fs_metadata_seal(layout, memory, data, lba, BLOCKS);
	for (uint32_t index = 0; index < BLOCKS; index++) {
		uint8_t *pi = pi_of(layout, memory, index);
		uint16_t guard = spdk_crc16_t10dif(0, data + index * LBA, LBA);
		uint32_t reference = (uint32_t)(lba + index);

		for (uint32_t at = 8; at < layout->metadata_bytes && !layout->pi_first; at++) {
			/* Metadata in front is sealed too, and zero. */
			guard = spdk_crc16_t10dif(guard, "", 1);
		}
		CHECK_EQ(pi[0] << 8 | pi[1], guard);
		CHECK_EQ(pi[2] << 8 | pi[3], 0x1234);
		CHECK_EQ((uint32_t)pi[4] << 24 | (uint32_t)pi[5] << 16 | (uint32_t)pi[6] << 8 | pi[7], reference);
	}
	memcpy(back, data, LBA * BLOCKS);
	if (layout->extended) {
		memset(back, 0, LBA * BLOCKS);
	}
	CHECK_EQ(fs_metadata_open(layout, memory, back, lba, BLOCKS), 0);
	CHECK(memcmp(back, data, LBA * BLOCKS) == 0);
	for (uint32_t index = 0; index < BLOCKS; index++) {
		static const struct {
			uint32_t at;
			uint16_t status;
		} faults[] = { { 0, GUARD }, { 1, GUARD }, { 2, APPTAG }, { 3, APPTAG }, { 4, REFTAG }, { 7, REFTAG } };

		for (uint32_t fault = 0; fault < sizeof(faults) / sizeof(faults[0]); fault++) {
			uint8_t *byte = pi_of(layout, memory, index) + faults[fault].at;

			*byte ^= 1;
			CHECK_EQ(fs_metadata_open(layout, memory, back, lba, BLOCKS), faults[fault].status);
			*byte ^= 1;
		}
		/* An application tag of ones: nothing is to be checked. */
		memset(pi_of(layout, memory, index) + 2, 0xff, 2);
		*pi_of(layout, memory, index) ^= 1;
		CHECK_EQ(fs_metadata_open(layout, memory, back, lba, BLOCKS), 0);
		fs_metadata_seal(layout, memory, data, lba, BLOCKS);
	}
	free(memory);
	free(data);
	free(back);
}

static void
seals_of_all_layouts(void)
{
	for (uint32_t way = 0; way < 4; way++) {
		for (uint32_t metadata_bytes = 8; metadata_bytes <= 64; metadata_bytes *= 2) {
			struct fs_layout layout = layout_of(way & 1, way & 2, metadata_bytes);

			seals_open_and_broken_seals_do_not(&layout);
		}
	}
}

static void
only_what_is_asked_for_is_checked(void)
{
	uint8_t data[LBA] = { 1 }, memory[8];

	for (uint32_t check = 0; check < 8; check++) {
		struct fs_layout layout = layout_of(false, false, 8);
		uint16_t wanted;

		layout.check = (check & 1 ? FS_FLAG_PRCHK_GUARD : 0) | (check & 2 ? FS_FLAG_PRCHK_APPTAG : 0)
			       | (check & 4 ? FS_FLAG_PRCHK_REFTAG : 0);
		wanted = check & 1 ? GUARD : check & 2 ? APPTAG : check & 4 ? REFTAG : 0;
		fs_metadata_seal(&layout, memory, data, 7, 1);
		memory[0] ^= 1;
		memory[2] ^= 1;
		memory[7] ^= 1;
		CHECK_EQ(fs_metadata_open(&layout, memory, data, 7, 1), wanted);
		/* Bits outside the mask do not count. */
		layout.check = FS_FLAG_PRCHK_APPTAG;
		layout.apptag_mask = 0x00ff;
		CHECK_EQ(fs_metadata_open(&layout, memory, data, 7, 1), 0);
		/* Type 3 has no reference tag. */
		layout.check = FS_FLAG_PRCHK_REFTAG;
		layout.pi_type = 3;
		CHECK_EQ(fs_metadata_open(&layout, memory, data, 7, 1), 0);
	}
}

/* Through the queue: drives with metadata of all kinds, and a drive that gives back something else. */
static void
drives_with_metadata(const char *id, bool spoil)
{
	struct bench bench = { .options.depth = 8 };
	uint32_t md, lba;
	uint8_t *stored;
	struct fs_ns_info info;

	bench.options.read_flags = FS_FLAG_PRCHK_GUARD | FS_FLAG_PRCHK_APPTAG | FS_FLAG_PRCHK_REFTAG;
	bench.options.write_flags = bench.options.read_flags;
	bench.options.apptag = 0xbeef;
	bench.options.apptag_mask = 0xffff;
	bench_open(&bench, id);
	CHECK_EQ(fs_ns_info(bench.ctrlr, 1, &info), 0);
	md = info.metadata_bytes;
	lba = info.lba_bytes;
	for (uint32_t tag = 0; tag < 8; tag++) {
		memset(bench.buffers + tag * BLOCK, 'a' + (int)tag, BLOCK);
		CHECK_EQ(bench_submit(&bench, FS_OP_WRITE, tag, tag), 0);
	}
	bench_await(&bench, 8);
	for (uint32_t tag = 0; tag < 8; tag++) {
		CHECK_EQ(bench.status[tag], 0);
	}
	for (uint32_t tag = 0; tag < 8; tag++) {
		CHECK_EQ(bench_submit(&bench, FS_OP_COMPARE, tag, tag), 0);
	}
	bench_await(&bench, 8);
	memset(bench.buffers, 0, 8 * BLOCK);
	for (uint32_t tag = 0; tag < 8; tag++) {
		CHECK_EQ(bench.status[tag], 0);
		CHECK_EQ(bench_submit(&bench, FS_OP_READ, tag, tag), 0);
	}
	bench_await(&bench, 8);
	for (uint32_t tag = 0; tag < 8; tag++) {
		uint8_t *bytes = bench.buffers + tag * BLOCK;

		CHECK_EQ(bench.status[tag], 0);
		CHECK(bytes[0] == 'a' + tag && bytes[BLOCK / 2] == 'a' + tag && bytes[BLOCK - 1] == 'a' + tag);
	}
	/* Blocks that nobody has written read as zeros. */
	CHECK_EQ(bench_one(&bench, FS_OP_READ, 100), 0);
	CHECK(bench.buffers[0] == 0 && bench.buffers[BLOCK - 1] == 0);
	if (spoil) {
		stored = fake_metadata(bench.drive, 1) + (size_t)(2 * BLOCK / lba) * md + (info.pi_first ? 0 : md - 8);
		for (uint32_t at = 0; at < 8; at++) {
			stored[at] ^= 1;
			CHECK_EQ(bench_one(&bench, FS_OP_READ, 2), at < 2 ? GUARD : at < 4 ? APPTAG : REFTAG);
			stored[at] ^= 1;
		}
		fake_data(bench.drive, 1)[2 * BLOCK + 17] ^= 4;
		CHECK_EQ(bench_one(&bench, FS_OP_READ, 2), GUARD);
		fake_data(bench.drive, 1)[2 * BLOCK + 17] ^= 4;
		CHECK_EQ(bench_one(&bench, FS_OP_READ, 2), 0);
	}
	bench_close(&bench);
}

static void
drives_of_all_layouts(void)
{
	drives_with_metadata("trtype:PCIe traddr:0000:00:05.0,md8,pi1", true);
	drives_with_metadata("trtype:PCIe traddr:0000:00:05.1,md64,pi1", true);
	drives_with_metadata("trtype:PCIe traddr:0000:00:05.2,md64,pi1,pifirst", true);
	drives_with_metadata("trtype:PCIe traddr:0000:00:05.3,md8,pi2,ext", true);
	drives_with_metadata("trtype:PCIe traddr:0000:00:05.4,md16,pi1,ext,pifirst", true);
	drives_with_metadata("trtype:PCIe traddr:0000:00:05.5,lba4096,md16,pi1,ext", true);
	drives_with_metadata("trtype:PCIe traddr:0000:00:05.6,lba4096,md8", false);
	drives_with_metadata("trtype:PCIe traddr:0000:00:05.7,md16,ext", false);
}

/* The controller makes and strips what is there, and the host's buffers are data alone. */
static void
protection_by_the_controller(void)
{
	static const char *const ids[] = { "trtype:PCIe traddr:0000:00:06.0,md8,pi1",
					   "trtype:PCIe traddr:0000:00:06.1,md8,pi1,ext",
					   "trtype:PCIe traddr:0000:00:06.2,md16,pi1" };

	for (uint32_t at = 0; at < 3; at++) {
		struct bench bench = { .options.depth = 4 };

		bench.options.read_flags = FS_FLAG_PRACT | FS_FLAG_PRCHK_GUARD | FS_FLAG_PRCHK_REFTAG;
		bench.options.write_flags = bench.options.read_flags;
		bench_open(&bench, ids[at]);
		memset(bench.buffers, 0x3c, BLOCK);
		CHECK_EQ(bench_one(&bench, FS_OP_WRITE, 5), 0);
		memset(bench.buffers, 0, BLOCK);
		CHECK_EQ(bench_one(&bench, FS_OP_READ, 5), 0);
		CHECK(bench.buffers[0] == 0x3c && bench.buffers[BLOCK - 1] == 0x3c);
		/* The controller's own check. */
		fake_data(bench.drive, 1)[5 * BLOCK] ^= 1;
		CHECK_EQ(bench_one(&bench, FS_OP_READ, 5), GUARD);
		bench_close(&bench);
	}
}

static const struct test_case cases[] = {
	{ "guards_are_those_of_t10", guards_are_those_of_t10 },
	{ "seals_of_all_layouts", seals_of_all_layouts },
	{ "only_what_is_asked_for_is_checked", only_what_is_asked_for_is_checked },
	{ "drives_of_all_layouts", drives_of_all_layouts },
	{ "protection_by_the_controller", protection_by_the_controller },
};

BENCH_MAIN(cases)
