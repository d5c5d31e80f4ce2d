/*
 * tide_stamp.h
 *		The version stamp of a replicated row: who wrote it last, and when.
 *
 * Owns: the encoding, the order and the text form of stamps, the step of the
 * hybrid logical clock, a region's number.  Does not own: reading a clock,
 * remembering one (extension/src/stamp.c), what follows from the order
 * (tide_merge.h).
 *
 * A stamp is (clock, origin).  The clock is a hybrid logical clock: microseconds
 * since the Unix epoch when physical time leads, one more than the largest
 * clock seen when it does not.  The origin is a number made from the region's
 * name, so that every region computes the same without asking anybody.
 *
 * Encoded: 8 bytes clock, 4 bytes origin, both big endian, so that memcmp is the
 * order; further bytes are reserved for what a table may need later (version
 * vectors, per-column stamps) and are kept, compared last, as bytes.
 *
 * Source: S. Kulkarni et al., "Logical Physical Clocks", 2014, with the counter
 * folded into the microseconds.
 */
#ifndef TIDE_STAMP_H
#define TIDE_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIDE_STAMP_LEN 12
#define TIDE_STAMP_TEXT 48 /* enough for the text form with its terminating zero */

typedef struct TideStamp
{
	int64_t clock;	 /* microseconds since 1970, not negative; 0: before everything stamped */
	uint32_t origin; /* tide_region_id of the writer; 0: unknown */
} TideStamp;

/* A region's number: FNV-1a of its name, never 0.  Two names may collide; region_add refuses that. */
extern uint32_t tide_region_id(const char *name, size_t len);

/* The next clock: larger than everything seen (unless that is INT64_MAX), not behind physical time. */
extern int64_t tide_clock_next(int64_t physical_us, int64_t seen);

extern void tide_stamp_encode(TideStamp stamp, uint8_t out[TIDE_STAMP_LEN]);

/* false if data is shorter than a stamp or its clock has the sign bit, which no stamp has. */
extern bool tide_stamp_decode(const uint8_t *data, size_t len, TideStamp *stamp);

/* <0, 0, >0.  Clock first, origin breaks ties. */
extern int tide_stamp_compare(TideStamp a, TideStamp b);

/* "<clock>@<origin as 8 hex digits>"; parse is strict and takes exactly that form. */
extern void tide_stamp_format(TideStamp stamp, char out[TIDE_STAMP_TEXT]);
extern bool tide_stamp_parse(const char *text, size_t len, TideStamp *stamp);

#endif /* TIDE_STAMP_H */
