/* What the shim uses of the NVMe specification as SPDK spells it. */
#ifndef SPDK_NVME_SPEC_H
#define SPDK_NVME_SPEC_H

#include <stdint.h>

enum {
	SPDK_NVME_OPC_GET_FEATURES = 0x0a,
	SPDK_NVME_OPC_DATASET_MANAGEMENT = 0x09,
};

enum {
	SPDK_NVME_DSM_ATTR_DEALLOCATE = 1 << 2,
};

#define SPDK_NVME_IO_FLAGS_PRCHK_REFTAG (1U << 26)
#define SPDK_NVME_IO_FLAGS_PRCHK_APPTAG (1U << 27)
#define SPDK_NVME_IO_FLAGS_PRCHK_GUARD (1U << 28)
#define SPDK_NVME_IO_FLAGS_PRACT (1U << 29)
#define SPDK_NVME_IO_FLAGS_FORCE_UNIT_ACCESS (1U << 30)

enum spdk_nvme_cc_ams {
	SPDK_NVME_CC_AMS_RR = 0,
	SPDK_NVME_CC_AMS_WRR = 1,
};

enum spdk_nvme_qprio {
	SPDK_NVME_QPRIO_URGENT = 0,
	SPDK_NVME_QPRIO_LOW = 3,
};

union spdk_nvme_cap_register {
	uint64_t raw;
	struct {
		uint32_t mqes : 16;
		uint32_t others : 16;
		uint32_t more;
	} bits;
};

union spdk_nvme_csts_register {
	uint32_t raw;
};

struct spdk_nvme_cmd {
	uint16_t opc : 8;
	uint16_t flags : 8;
	uint16_t cid;
	uint32_t nsid;
	uint32_t rsvd2;
	uint32_t rsvd3;
	uint64_t mptr;
	uint64_t prp[2];
	union {
		uint32_t cdw10;
		union {
			struct {
				uint32_t nr : 8;
				uint32_t reserved : 24;
			} dsm;
		} cdw10_bits;
	};
	uint32_t cdw11;
	uint32_t cdw12;
	uint32_t cdw13;
	uint32_t cdw14;
	uint32_t cdw15;
};

struct spdk_nvme_status {
	uint16_t p : 1;
	uint16_t sc : 8;
	uint16_t sct : 3;
	uint16_t crd : 2;
	uint16_t m : 1;
	uint16_t dnr : 1;
};

struct spdk_nvme_cpl {
	uint32_t cdw0;
	uint32_t cdw1;
	uint16_t sqhd;
	uint16_t sqid;
	uint16_t cid;
	union {
		uint16_t status_raw;
		struct spdk_nvme_status status;
	};
};

#define spdk_nvme_cpl_is_error(cpl) ((cpl)->status.sc != 0 || (cpl)->status.sct != 0)

#define SPDK_NVME_DATASET_MANAGEMENT_MAX_RANGES 256

struct spdk_nvme_dsm_range {
	uint32_t attributes;
	uint32_t length;
	uint64_t starting_lba;
};

struct spdk_nvme_ctrlr_data {
	uint8_t bytes[4096];
};

struct spdk_nvme_ns_data {
	uint8_t bytes[4096];
};

#endif
