/*
 * tide_crc.c
 *		CRC-32C, the checksum of frames.
 *
 * Owns: the sum.  Does not own: what is summed.
 *
 * Eight bytes at a time: by the processor where it can (every x86-64 server since 2009), else with
 * eight tables, which are made at the first use.
 *
 * Source: M. Kounavis and F. Berry, "A Systematic Approach to Building High
 * Performance Software-based CRC Generators", 2005 ("slicing-by-8").
 */
#include "tide_crc.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define CASTAGNOLI UINT32_C(0x82F63B78) /* bits reversed */
#define SLICES 8

/* table[k][b]: the sum of byte b followed by k zero bytes. */
static uint32_t table[SLICES][256];

static void
make_tables(void)
{
	for (uint32_t byte = 0; byte < 256; byte++)
	{
		uint32_t crc = byte;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CASTAGNOLI : 0);
		table[0][byte] = crc;
	}
	for (int k = 1; k < SLICES; k++)
	{
		for (int byte = 0; byte < 256; byte++)
			table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 0xFF];
	}
}

static uint32_t
little_endian(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

/* The sums go in and out inverted; see tide_crc32c(). */
static uint32_t
by_tables(uint32_t crc, const uint8_t *p, size_t len)
{
	for (; len >= SLICES; p += SLICES, len -= SLICES)
	{
		uint32_t low = crc ^ little_endian(p);
		uint32_t high = little_endian(p + 4);

		crc = table[7][low & 0xFF] ^ table[6][low >> 8 & 0xFF] ^ table[5][low >> 16 & 0xFF] ^
			  table[4][low >> 24] ^ table[3][high & 0xFF] ^ table[2][high >> 8 & 0xFF] ^
			  table[1][high >> 16 & 0xFF] ^ table[0][high >> 24];
	}
	for (; len > 0; p++, len--)
		crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xFF];
	return crc;
}

static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static uint32_t (*method)(uint32_t crc, const uint8_t *p, size_t len);

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t
by_processor(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t sum = crc;

	for (; len >= sizeof(uint64_t); p += sizeof(uint64_t), len -= sizeof(uint64_t))
	{
		uint64_t word;

		memcpy(&word, p, sizeof(word));
		sum = __builtin_ia32_crc32di(sum, word);
	}
	crc = (uint32_t) sum;
	for (; len > 0; p++, len--)
		crc = __builtin_ia32_crc32qi(crc, *p);
	return crc;
}

static bool
processor_can(void)
{
	return __builtin_cpu_supports("sse4.2");
}

#else

#define by_processor by_tables

static bool
processor_can(void)
{
	return false;
}

#endif

static void
prepare(void)
{
	make_tables();
	method = processor_can() ? by_processor : by_tables;
}

uint32_t
tide_crc32c(uint32_t crc, const void *data, size_t len)
{
	pthread_once(&prepared, prepare);
	return ~method(~crc, data, len);
}

uint32_t
tide_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
	pthread_once(&prepared, prepare);
	return ~by_tables(~crc, data, len);
}
