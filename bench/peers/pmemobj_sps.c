/*
 * The workload of `plinius bench sps` on PMDK's libpmemobj: swaps of random words of a persistent array, several in one
 * transaction. See bench/peers/README.md for the protocol.
 *
 * Written as a user of libpmemobj would: each word is added to the undo log with pmemobj_tx_add_range_direct before it
 * is changed. A log buffer that is allocated once (pmemobj_tx_log_append_buffer) was tried: it makes transactions of 2
 * swaps slower and no other faster by more than the noise.
 */
#include <errno.h>
#include <libpmemobj.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Swaps between two looks at the clock: the clock must not be what is measured. */
#define SWAPS_BETWEEN_LOOKS 512
/* What the pool needs beside the array: lanes, metadata, logs of large transactions. */
#define SPARE_BYTES (32u << 20)

struct options {
	const char *path;
	size_t words;
	size_t swaps;
	double seconds;
	const char *pwb;
	uint64_t seed;
};

struct array {
	PMEMobjpool *pool;
	uint64_t *word;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "pmemobj_sps: %s: %s\n", what, why);
	exit(1);
}

static double now_s(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* xorshift64*, and its upper bits spread over 0..bound without a division. */
static inline size_t below(uint64_t *state, size_t bound)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (size_t)(((unsigned __int128)(*state * 0x2545f4914f6cdd1dULL) * bound) >> 64);
}

/* libpmem chooses its instructions when it is loaded, so the choice must be in the environment before. */
static void choose_pwb(char **arguments, const char *pwb)
{
	const char *values[][2] = {
		{"PMEM_IS_PMEM_FORCE", "1"}, /* flush with instructions, not with msync, also on tmpfs */
		{"PMEM_NO_FLUSH", strcmp(pwb, "none") == 0 ? "1" : "0"},
		{"PMEM_NO_CLWB", strncmp(pwb, "clflush", 7) == 0 ? "1" : "0"},
		{"PMEM_NO_CLFLUSHOPT", strcmp(pwb, "clflush") == 0 ? "1" : "0"},
	};
	int chosen = 1;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		const char *set = getenv(values[i][0]);
		chosen &= set != NULL && strcmp(set, values[i][1]) == 0;
		setenv(values[i][0], values[i][1], 1);
	}
	if (!chosen) {
		execv("/proc/self/exe", arguments);
		die("starting again", strerror(errno));
	}
}

static struct options parse(int count, char **arguments)
{
	if (count != 7) {
		fprintf(stderr, "usage: pmemobj_sps POOL_FILE ARRAY_BYTES SWAPS_PER_TRANSACTION SECONDS PWB SEED\n");
		exit(2);
	}
	struct options options = {
		.path = arguments[1],
		.words = strtoull(arguments[2], NULL, 10) / sizeof(uint64_t),
		.swaps = strtoull(arguments[3], NULL, 10),
		.seconds = strtod(arguments[4], NULL),
		.pwb = arguments[5],
		.seed = strtoull(arguments[6], NULL, 10),
	};
	const char *known[] = {"clwb", "clflushopt", "clflush", "none"};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(options.pwb, known[i]) == 0 && options.words > 0 && options.swaps > 0)
			return options;
	die("arguments", "ARRAY_BYTES and SWAPS_PER_TRANSACTION are positive, PWB is clwb, clflushopt, clflush or none");
	return options;
}

static struct array create(const struct options *options)
{
	struct array array;
	size_t bytes = options->words * sizeof(uint64_t);
	int yes = 1;
	pmemobj_ctl_set(NULL, "prefault.at_create", &yes);
	array.pool = pmemobj_create(options->path, "sps", bytes + SPARE_BYTES, 0600);
	if (array.pool == NULL)
		die(options->path, pmemobj_errormsg());
	PMEMoid root = pmemobj_root(array.pool, bytes);
	if (OID_IS_NULL(root))
		die(options->path, pmemobj_errormsg());
	array.word = pmemobj_direct(root);
	for (size_t i = 0; i < options->words; i++)
		array.word[i] = i;
	pmemobj_persist(array.pool, array.word, bytes);
	return array;
}

static void transaction(const struct array *array, size_t words, size_t swaps, uint64_t *random)
{
	uint64_t *word = array->word;
	TX_BEGIN(array->pool) {
		for (size_t i = 0; i < swaps; i++) {
			uint64_t *one = &word[below(random, words)], *other = &word[below(random, words)];
			pmemobj_tx_add_range_direct(one, sizeof *one);
			pmemobj_tx_add_range_direct(other, sizeof *other);
			uint64_t kept = *one;
			*one = *other;
			*other = kept;
		}
	} TX_ONABORT {
		die("transaction", pmemobj_errormsg());
	} TX_END
}

/* Runs for some seconds; returns the swaps, and the seconds that they took. */
static uint64_t run(const struct array *array, const struct options *options, double *seconds, uint64_t *random)
{
	size_t burst = SWAPS_BETWEEN_LOOKS / options->swaps;
	uint64_t swaps = 0;
	double began_s = now_s(), limit_s = *seconds;
	do {
		for (size_t i = 0; i <= burst; i++)
			transaction(array, options->words, options->swaps, random);
		swaps += (burst + 1) * options->swaps;
		*seconds = now_s() - began_s;
	} while (*seconds < limit_s);
	return swaps;
}

/* Swaps lose nothing: every number is still there once. */
static int is_permutation(const uint64_t *word, size_t words)
{
	char *seen = calloc(words, 1);
	if (seen == NULL)
		die("memory", strerror(errno));
	size_t found = 0;
	for (size_t i = 0; i < words; i++)
		if (word[i] < words && !seen[word[i]]) {
			seen[word[i]] = 1;
			found++;
		}
	free(seen);
	return found == words;
}

int main(int count, char **arguments)
{
	struct options options = parse(count, arguments);
	choose_pwb(arguments, options.pwb);
	struct array array = create(&options);
	uint64_t random = options.seed * 2 + 1; /* not 0 */
	double seconds = options.seconds / 10;
	run(&array, &options, &seconds, &random); /* warm up */
	seconds = options.seconds;
	uint64_t swaps = run(&array, &options, &seconds, &random);
	printf("{\"swaps\": %llu, \"seconds\": %.9f, \"checksum_ok\": %s}\n", (unsigned long long)swaps, seconds,
		is_permutation(array.word, options.words) ? "true" : "false");
	pmemobj_close(array.pool);
	return 0;
}
