/*
 * tide_uuid.h
 *		Event ids: UUIDs of version 7 (RFC 9562), and their text form.
 *
 * Owns: the bits.  Does not own: the clock and the random bytes, which the
 * caller passes in.
 */
#ifndef TIDE_UUID_H
#define TIDE_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIDE_UUID_TEXT 36 /* characters, without the NUL */

/*
 * 48 bits of milliseconds, 12 bits of the millisecond's fraction, 62 random
 * bits: ids of different microseconds sort by time.  unix_us (microseconds
 * since 1970-01-01 UTC) is clamped to what 48 bits of milliseconds hold.
 */
extern void tide_uuid7(uint8_t out[16], int64_t unix_us, const uint8_t random[8]);

/* The microseconds an id was made from; false if it is not version 7. */
extern bool tide_uuid7_unix_us(const uint8_t uuid[16], int64_t *unix_us);

extern void tide_uuid_format(char out[TIDE_UUID_TEXT + 1], const uint8_t uuid[16]); /* lower case */
/* Exactly 8-4-4-4-12 hex digits, either case. */
extern bool tide_uuid_parse(uint8_t out[16], const char *text, size_t len);

#endif /* TIDE_UUID_H */
