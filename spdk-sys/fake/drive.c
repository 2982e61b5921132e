/* Drives: their names, shapes, identities, and the knobs of tests. */
#include "internal.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>

static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_drive *g_drives;

static bool
copy_value(char *to, size_t size, const char *from, size_t len)
{
	if (len == 0 || len >= size) {
		return false;
	}
	memcpy(to, from, len);
	to[len] = '\0';
	return true;
}

static bool
set_type(struct spdk_nvme_transport_id *id, const char *value, size_t len)
{
	static const struct {
		const char *name;
		enum spdk_nvme_transport_type type;
	} types[] = {
		{ "PCIe", SPDK_NVME_TRANSPORT_PCIE },
		{ "TCP", SPDK_NVME_TRANSPORT_TCP },
		{ "RDMA", SPDK_NVME_TRANSPORT_RDMA },
		{ "VFIOUSER", SPDK_NVME_TRANSPORT_VFIOUSER },
	};

	for (size_t at = 0; at < sizeof(types) / sizeof(types[0]); at++) {
		if (strlen(types[at].name) == len && strncasecmp(types[at].name, value, len) == 0) {
			id->trtype = types[at].type;
			return true;
		}
	}
	return false;
}

int
spdk_nvme_transport_id_parse(struct spdk_nvme_transport_id *trid, const char *str)
{
	bool typed = false;

	while (*(str += strspn(str, " \t\n")) != '\0') {
		size_t len = strcspn(str, " \t\n"), key = strcspn(str, ":=");
		const char *value = str + key + 1;
		size_t rest = len - key - 1;
		bool good = key < len;

		if (good && key == 6 && strncasecmp(str, "trtype", key) == 0) {
			good = typed = set_type(trid, value, rest);
		} else if (good && key == 6 && strncasecmp(str, "traddr", key) == 0) {
			good = copy_value(trid->traddr, sizeof(trid->traddr), value, rest);
		} else if (good && key == 7 && strncasecmp(str, "trsvcid", key) == 0) {
			good = copy_value(trid->trsvcid, sizeof(trid->trsvcid), value, rest);
		} else if (good && key == 6 && strncasecmp(str, "subnqn", key) == 0) {
			good = copy_value(trid->subnqn, sizeof(trid->subnqn), value, rest);
		}
		if (!good) {
			return -EINVAL;
		}
		str += len;
	}
	return typed ? 0 : -EINVAL;
}

int
spdk_nvme_host_id_parse(struct spdk_nvme_host_id *hostid, const char *str)
{
	(void)hostid;
	(void)str;
	return 0;
}

static void
shape_word(struct shape *shape, uint64_t *bytes, const char *word)
{
	size_t len = strcspn(word, "0123456789");
	uint32_t number = (uint32_t)strtoul(word + len, NULL, 10);

	if (strncmp(word, "lba", len) == 0 && len == 3) {
		shape->lba_bytes = number;
	} else if (strncmp(word, "mb", len) == 0 && len == 2) {
		*bytes = (uint64_t)number << 20;
	} else if (strncmp(word, "ns", len) == 0 && len == 2 && number <= MOST_NAMESPACES) {
		shape->namespaces = number;
	} else if (strncmp(word, "md", len) == 0 && len == 2) {
		shape->metadata_bytes = number;
	} else if (strncmp(word, "pi", len) == 0 && len == 2) {
		shape->pi_type = number;
	} else if (strncmp(word, "queues", len) == 0 && len == 6) {
		shape->queues = number;
	} else if (strncmp(word, "entries", len) == 0 && len == 7) {
		shape->entries = number;
	} else if (strncmp(word, "xfer", len) == 0 && len == 4) {
		shape->max_transfer = number;
	} else if (strncmp(word, "noiob", len) == 0 && len == 5) {
		shape->stripe_blocks = number;
	} else if (strncmp(word, "nawupf", len) == 0 && len == 6) {
		shape->atomic_blocks = number;
	} else if (strncmp(word, "dlfeat", len) == 0 && len == 6) {
		shape->deallocated = number;
	} else if (strncmp(word, "dmrl", len) == 0 && len == 4) {
		shape->most_ranges = number;
	} else if (strcmp(word, "ext") == 0) {
		shape->extended = true;
	} else if (strcmp(word, "pifirst") == 0) {
		shape->pi_first = true;
	} else if (strcmp(word, "novwc") == 0) {
		shape->volatile_cache = false;
	}
}

static struct shape
shape_of(const char *name)
{
	struct shape shape = {
		.lba_bytes = 512,
		.namespaces = 1,
		.queues = 16,
		.entries = 1024,
		.max_transfer = 128 * 1024,
		.volatile_cache = true,
	};
	uint64_t bytes = 64 << 20;
	char words[sizeof(((struct fake_drive *)NULL)->name)];
	char *rest = NULL;

	strcpy(words, name);
	for (char *word = strtok_r(words, ",|", &rest); word != NULL; word = strtok_r(NULL, ",|", &rest)) {
		shape_word(&shape, &bytes, word);
	}
	shape.blocks = bytes / shape.lba_bytes;
	return shape;
}

static void
put(uint8_t *to, uint64_t value, uint32_t bytes)
{
	for (; bytes > 0; bytes--, value >>= 8) {
		*to++ = (uint8_t)value;
	}
}

static void
put_text(uint8_t *to, const char *text, size_t len)
{
	memset(to, ' ', len);
	memcpy(to, text, strlen(text) < len ? strlen(text) : len);
}

/* NVMe Base 2.0, figure 275; NVM Command Set 1.0, figure 97. */
static void
fill_identify(struct fake_drive *drive)
{
	const struct shape *shape = &drive->shape;
	uint8_t *ctrlr = drive->identify.bytes, *ns = drive->identify_ns.bytes;
	uint32_t shift = 0;

	put_text(ctrlr + 4, drive->serial, 20);
	put_text(ctrlr + 24, "Made-up NVMe drive", 40);
	put_text(ctrlr + 64, "1.0", 8);
	while (((uint32_t)4096 << shift) < shape->max_transfer) {
		shift++;
	}
	ctrlr[77] = (uint8_t)shift;
	put(ctrlr + 80, 0x00010400, 4);
	put(ctrlr + 516, shape->namespaces, 4);
	/* Compare, Write Uncorrectable, DSM, Write Zeroes, Verify. */
	put(ctrlr + 520, 0x8f, 2);
	ctrlr[525] = shape->volatile_cache ? 1 : 0;
	/* AWUPF, 0's based: 4 KiB. */
	put(ctrlr + 528, shape->lba_bytes >= 4096 ? 0 : 4096 / shape->lba_bytes - 1, 2);
	put_text(ctrlr + 768, "nqn.2024-01.fake", 16);
	ctrlr[768 + 16] = 0;

	put(ns, shape->blocks, 8);
	put(ns + 8, shape->blocks, 8);
	put(ns + 16, shape->blocks, 8);
	ns[33] = (uint8_t)shape->deallocated;
	if (shape->atomic_blocks > 0) {
		ns[24] |= 2;
		put(ns + 36, shape->atomic_blocks - 1, 2);
	}
	put(ns + 46, shape->stripe_blocks, 2);
	ns[26] = shape->extended ? 0x10 : 0;
	ns[27] = shape->metadata_bytes == 0 ? 0 : 3;
	ns[28] = shape->pi_type == 0 ? 0 : 0x1f;
	ns[29] = (uint8_t)(shape->pi_type | (shape->pi_first ? 8 : 0));
	shift = (uint32_t)__builtin_ctz(shape->lba_bytes);
	put(ns + 128, shape->metadata_bytes | shift << 16, 4);
}

/* The data of a namespace: in a file, or in memory alone. */
static uint8_t *
open_data(const struct fake_drive *drive, uint32_t at)
{
	size_t bytes = drive->shape.blocks * drive->shape.lba_bytes;
	char path[400];
	void *data;
	int file;

	if (drive->folder[0] == '\0') {
		return calloc(1, bytes);
	}
	snprintf(path, sizeof(path), "%s/%s.ns%u", drive->folder, drive->serial, at + 1);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (file < 0 || ftruncate(file, (off_t)bytes) != 0) {
		abort();
	}
	data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	return data == MAP_FAILED ? NULL : data;
}

/* What was stored before stays mapped: it is memory of a test. */
static void
open_stores(struct fake_drive *drive)
{
	for (uint32_t at = 0; at < drive->shape.namespaces; at++) {
		struct store *store = &drive->stores[at];

		store->data = open_data(drive, at);
		store->metadata = calloc(drive->shape.blocks, drive->shape.metadata_bytes + 1);
		store->bad = calloc(drive->shape.blocks, 1);
		/* Nothing to be checked before it is written. */
		memset(store->metadata, drive->shape.pi_type == 0 ? 0 : 0xff,
		       drive->shape.blocks * drive->shape.metadata_bytes);
	}
}

/* The serial number that the directory says, if there is one and it says any. */
static bool
read_serial(const char *folder, char serial[21])
{
	char path[400];
	FILE *file;
	bool found;

	if (folder[0] == '\0') {
		return false;
	}
	snprintf(path, sizeof(path), "%s/serial", folder);
	file = fopen(path, "re");
	if (file == NULL) {
		return false;
	}
	found = fscanf(file, "%20s", serial) == 1;
	fclose(file);
	return found;
}

void
fake_swap_if_asked(struct fake_drive *drive)
{
	char serial[21];

	if (drive->knobs[FAKE_SWAP] != 0) {
		snprintf(serial, sizeof(serial), "SWAP%08u", (uint32_t)drive->knobs[FAKE_SWAP]);
		drive->knobs[FAKE_SWAP] = 0;
	} else if (!read_serial(drive->folder, serial)) {
		return;
	}
	if (strcmp(serial, drive->serial) == 0) {
		return;
	}
	strcpy(drive->serial, serial);
	drive->knobs[FAKE_COMMANDS] = 0;
	open_stores(drive);
	fill_identify(drive);
}

static struct fake_drive *
make(const char *name, const char *traddr, uint32_t number)
{
	struct fake_drive *drive = calloc(1, sizeof(*drive));
	pthread_mutexattr_t attributes;
	struct stat folder;

	strcpy(drive->name, name);
	if (stat(traddr, &folder) == 0 && S_ISDIR(folder.st_mode)) {
		snprintf(drive->folder, sizeof(drive->folder), "%s", traddr);
	}
	if (!read_serial(drive->folder, drive->serial)) {
		snprintf(drive->serial, sizeof(drive->serial), "FAKE%08u", number);
	}
	drive->shape = shape_of(name);
	drive->cache_feature = drive->shape.volatile_cache ? 1 : 0;
	/* Ready. */
	drive->knobs[FAKE_CSTS] = 1;
	open_stores(drive);
	fill_identify(drive);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&drive->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return drive;
}

struct fake_drive *
fake_drive(const char *transport_id)
{
	struct spdk_nvme_transport_id id;
	struct fake_drive *drive;
	char name[sizeof(drive->name)];
	uint32_t number = 1;

	memset(&id, 0, sizeof(id));
	if (spdk_nvme_transport_id_parse(&id, transport_id) != 0) {
		return NULL;
	}
	snprintf(name, sizeof(name), "%d|%s|%s|%s", (int)id.trtype, id.traddr, id.trsvcid, id.subnqn);
	pthread_mutex_lock(&g_lock);
	for (drive = g_drives; drive != NULL && strcmp(drive->name, name) != 0; drive = drive->next) {
		number++;
	}
	if (drive == NULL) {
		drive = make(name, id.traddr, number);
		drive->next = g_drives;
		g_drives = drive;
	}
	pthread_mutex_unlock(&g_lock);
	return drive;
}

static void
raise_event(struct fake_drive *drive, uint32_t cdw0)
{
	for (struct spdk_nvme_ctrlr *ctrlr = drive->ctrlrs; ctrlr != NULL; ctrlr = ctrlr->next) {
		if (ctrlr->event_count < sizeof(ctrlr->events) / sizeof(ctrlr->events[0])) {
			ctrlr->events[ctrlr->event_count++] = cdw0;
		}
	}
}

void
fake_set(struct fake_drive *drive, uint32_t knob, uint64_t value)
{
	pthread_mutex_lock(&drive->lock);
	if (knob < FAKE_KNOBS) {
		drive->knobs[knob] = value;
	}
	if (knob == FAKE_EVENT) {
		raise_event(drive, (uint32_t)value);
	} else if (knob == FAKE_REMOVE_NAMESPACE && value >= 1 && value <= MOST_NAMESPACES) {
		drive->stores[value - 1].removed = true;
		/* A notice: the list of namespaces has changed (NVMe Base 2.0, figure 150). */
		raise_event(drive, 0x40002);
	}
	pthread_mutex_unlock(&drive->lock);
}

uint64_t
fake_get(struct fake_drive *drive, uint32_t knob)
{
	uint64_t value;

	pthread_mutex_lock(&drive->lock);
	value = knob < FAKE_KNOBS ? drive->knobs[knob] : 0;
	if (knob == FAKE_OUTSTANDING || knob == FAKE_QUEUE_PAIRS) {
		value = 0;
		for (struct spdk_nvme_ctrlr *ctrlr = drive->ctrlrs; ctrlr != NULL; ctrlr = ctrlr->next) {
			for (struct spdk_nvme_qpair *pair = ctrlr->pairs; pair != NULL; pair = pair->next) {
				value += knob == FAKE_OUTSTANDING ? pair->count : 1;
			}
		}
	}
	pthread_mutex_unlock(&drive->lock);
	return value;
}

uint8_t *
fake_data(struct fake_drive *drive, uint32_t nsid)
{
	return drive->stores[nsid - 1].data;
}

uint8_t *
fake_metadata(struct fake_drive *drive, uint32_t nsid)
{
	return drive->stores[nsid - 1].metadata;
}

void
fake_spoil(struct fake_drive *drive, uint32_t nsid, uint64_t byte)
{
	pthread_mutex_lock(&drive->lock);
	if (nsid >= 1 && nsid <= drive->shape.namespaces && byte < drive->shape.blocks * drive->shape.lba_bytes) {
		drive->stores[nsid - 1].data[byte] ^= 1;
	}
	pthread_mutex_unlock(&drive->lock);
}

void
fake_misuse(struct fake_drive *drive, const char *what)
{
	drive->knobs[FAKE_MISUSES]++;
	fprintf(stderr, "made-up SPDK: %s\n", what);
}
