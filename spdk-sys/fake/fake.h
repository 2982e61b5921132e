/*
 * A made-up SPDK: drives in memory behind the functions that the shim calls, and the faults they can be
 * told to have. For tests alone.
 *
 * A drive comes to be when its transport id is named for the first time, and keeps its contents as long
 * as the process lives. Words between commas in its traddr or subnqn give it a shape:
 *   lba4096 (bytes of data an LBA, 512 else), mb16 (size of a namespace, 64 else), ns2 (namespaces),
 *   md8 (metadata bytes an LBA), ext (behind each LBA's data), pi1 (type of protection information),
 *   pifirst (in the first bytes), queues4 (I/O queues), entries64 (of a queue), xfer131072 (largest
 *   transfer), novwc (no volatile cache), dmrl8 (ranges of a deallocate at most, and it says so),
 *   nawupf32 (NAWUPF in blocks, from 1), noiob256 (NOIOB in blocks), dlfeat1 (DLFEAT).
 * A drive whose address has the word `missing` in it cannot be attached.
 *
 * Where traddr is a directory that exists, the drive outlives the process: its namespaces are kept in files
 * there, named after the serial number. A file `serial` in it says which drive is at the address: it is
 * read at each attach and each reset, and another serial number is another drive.
 *
 * Nothing happens but in the functions that poll, as in SPDK.
 */
#ifndef FIO_SPDK_FAKE_H
#define FIO_SPDK_FAKE_H

#include <stdint.h>

struct fake_drive;

enum {
	/* One of FAKE_ALIVE and those that follow it. */
	FAKE_DEATH = 0,
	/* So many submits return -ENOMEM. */
	FAKE_REFUSALS = 1,
	/* The n-th I/O command from now, 1 being the next, ends with FAKE_STATUS. */
	FAKE_FAIL_AT = 2,
	/* SC in bits 0 to 7, SCT in 8 to 10, DNR in 14. */
	FAKE_STATUS = 3,
	/* The n-th I/O command from now never completes, unless it is aborted or its queue pair ends. */
	FAKE_STUCK_AT = 4,
	/* So many completions are delivered twice. */
	FAKE_STRAYS = 5,
	/* A poll delivers up to so many completions more than it was asked for. */
	FAKE_EXCESS = 6,
	/* So many polls that deliver something lose the connection then, and return -ENXIO. */
	FAKE_POLL_ERRORS = 7,
	/* While not 0, no I/O completes. */
	FAKE_HOLD = 8,
	/* While not 0, no admin command is answered. */
	FAKE_ADMIN_SILENT = 9,
	/* Adds an asynchronous event: dword 0 of its completion. */
	FAKE_EVENT = 10,
	/* This namespace is gone. */
	FAKE_REMOVE_NAMESPACE = 11,
	FAKE_RESET_FAILS = 12,
	/* How long a reset takes, in microseconds. */
	FAKE_RESET_US = 13,
	FAKE_ABORTS_FAIL = 14,
	/* What CSTS reads as while the drive lives. */
	FAKE_CSTS = 15,
	/* From here on to be read: */
	/* Rules broken: a queue pair used during a reset or by two threads at once, a wait without end. */
	FAKE_MISUSES = 16,
	/* I/O commands accepted. */
	FAKE_COMMANDS = 17,
	/* Accepted and not completed. */
	FAKE_OUTSTANDING = 18,
	/* Detached with a shutdown notification. */
	FAKE_SHUTDOWNS = 19,
	FAKE_RESETS = 20,
	FAKE_QUEUE_PAIRS = 21,
	/* Largest number of commands that one poll has made visible to the device. */
	FAKE_BIGGEST_BATCH = 22,
	/* Largest number of ranges that one deallocate had. */
	FAKE_MOST_RANGES = 23,
	/* Not 0: the next attach or reset finds another drive at the address, with this number in its serial
	 * number and nothing stored; counters of commands begin anew. */
	FAKE_SWAP = 24,
	FAKE_KNOBS = 25,
};

enum {
	FAKE_ALIVE = 0,
	/* As a vfio-user target that dies: registers read as ones, and polls say nothing for ever. */
	FAKE_SILENT = 1,
	/* As a TCP target that dies: everything ends at once, polls and submits return -ENXIO. */
	FAKE_DISCONNECTED = 2,
};

/* The drive of a transport id, which is made if there is none yet; NULL where it is none. */
struct fake_drive *fake_drive(const char *transport_id);
/* Sets one of FAKE_*. */
void fake_set(struct fake_drive *drive, uint32_t knob, uint64_t value);
uint64_t fake_get(struct fake_drive *drive, uint32_t knob);
/* Says something in SPDK's log: 0 an error, 1 a warning, 2 a notice. */
void fake_log(int level, const char *text);
/* Turns a bit of a byte that a namespace stores. */
void fake_spoil(struct fake_drive *drive, uint32_t nsid, uint64_t byte);
/* The bytes that a namespace stores as data and as metadata, to look at and to spoil. */
uint8_t *fake_data(struct fake_drive *drive, uint32_t nsid);
uint8_t *fake_metadata(struct fake_drive *drive, uint32_t nsid);

#endif
