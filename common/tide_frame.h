/*
 * tide_frame.h
 *		Frames: how changes of rows travel, whatever carries them.
 *
 * Owns: the layout of frames and of the records in them, compression, the
 * checksum, the limits that protect a reader.  Does not own: where changes come
 * from (tide_capture.h), what a reader does with them (extension/src/apply.c).
 *
 * A frame is self-contained: whoever reads one needs no earlier frame to
 * understand it.  It holds whole transactions, or, if one is larger than a frame, a
 * part of that one transaction alone; flags say so.  Frames of one origin and
 * audience form a chain: each begins at the position where the one before ended.
 *
 * Layout (all integers big endian):
 *
 *	header	"TDF1" | flags u8 | level u8 | reserved u16 | raw_len u32 | body_len u32 | crc u32
 *			| start u64 | end u64 | system_id u64 | timeline u32 | built_us i64 | wal_end u64
 *			| n_transactions u32 | n_changes u32 | origin_len u8 | origin
 *	body	body_len bytes: records, or their zstd compression if TIDE_FRAME_ZSTD is set
 *
 * crc is CRC-32C of the whole frame with the crc field zero.  raw_len is the
 * length of the records; a reader allocates no more than its own limit.
 *
 * level says how hard zstd tried; 0 when the body is stored.  reserved is 0, a reader ignores it.
 *
 *	record	type u8 | len u32 | payload of len bytes
 *
 *	'R'	relation	relid u32 | fingerprint u64 | replident u8 | schema str | name str | ncols u16
 *					| per column: flags u8 (1: part of the key) | name str | typid u32 | typmod i32
 *					| type schema str | type name str (both empty for the server's own types)
 *	'B'	begin		commit_lsn u64 | commit_us i64 | xid u32
 *	'I'	insert		relid u32 | tuple (new)
 *	'U'	update		relid u32 | kind u8 (0, 'K' key or 'O' whole old row) | [tuple (old)] | tuple (new)
 *	'D'	delete		relid u32 | kind u8 ('K' or 'O') | tuple (old)
 *	'T'	truncate	flags u8 (1 cascade, 2 restart identity) | n u32 | n relids
 *	'H'	heartbeat	source_us i64
 *	'C'	commit		end_lsn u64
 *
 *	tuple	ncols u16 | per column: kind u8 'n' null, 'u' unchanged and not sent, 'b' binary, 't' text;
 *			for the last two: len u32 | bytes
 *	str		len u16 | bytes (no zero byte inside)
 *
 * A relation's record comes before the first record of the same frame that names
 * it, perhaps before 'B'; a later one with the same relid replaces it.  A frame
 * that goes on with a transaction (TIDE_FRAME_CONTINUES) repeats its 'B' first;
 * one that leaves it open (TIDE_FRAME_OPEN) ends without 'C'.  Such a frame holds
 * nothing of other transactions.  Times are microseconds since 1970.  A column's
 * type of a domain is named by its base type, which is what travels.
 */
#ifndef TIDE_FRAME_H
#define TIDE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tide_buf.h"

#define TIDE_FRAME_ZSTD 0x01	  /* the body is compressed */
#define TIDE_FRAME_CONTINUES 0x02 /* begins inside a transaction that an earlier frame began */
#define TIDE_FRAME_OPEN 0x04	  /* ends inside a transaction that the next frame goes on with */
#define TIDE_FRAME_SYNC 0x08	  /* somebody at the origin waits until it is durable here */

#define TIDE_FRAME_MAX_COLUMNS 1664
#define TIDE_FRAME_MAX_RAW ((size_t) 0x3ff00000) /* just under what one bytea can hold */
#define TIDE_MAX_ROW ((size_t) 1000 << 20)		 /* a larger one is refused where it is written */
#define TIDE_FRAME_HEADER 73					 /* without the origin's name */

typedef struct TideFrameHeader
{
	uint8_t flags;
	uint8_t level;
	uint32_t raw_len;
	uint32_t body_len;
	uint64_t start;		/* everything before this position came earlier */
	uint64_t end;		/* end of the last whole transaction; == start in an open frame */
	uint64_t system_id; /* of the origin's cluster */
	uint32_t timeline;
	int64_t built_us;		 /* the origin's clock, microseconds since 1970 */
	uint64_t wal_end;		 /* how far the origin's WAL had come */
	uint32_t n_transactions; /* that end in this frame */
	uint32_t n_changes;		 /* inserts, updates, deletes and truncates */
	const char *origin; /* the region's name, not terminated; points into the frame when read */
	uint8_t origin_len;
} TideFrameHeader;

/*
 * Completes a frame: header (its lengths are filled in) and records into out,
 * which is emptied first.  level 0: not compressed; else zstd's.  A body that
 * does not shrink is stored as it is.  Of header->flags only CONTINUES, OPEN
 * and SYNC are looked at.  false: out of memory, too large, or an origin that no region has.
 */
extern bool tide_frame_build(const TideFrameHeader *header, const void *records, size_t len,
							 int level, TideBuf *out);

/*
 * Reads and checks the header, lengths and checksum.  NULL, or a static text
 * that says what is wrong.  *body points into data.
 */
extern const char *
tide_frame_open(const void *data, size_t len, TideFrameHeader *header, const uint8_t **body);

/* The header of a frame that the caller has just built: nothing is checked. */
extern void tide_frame_peek(const void *data, size_t len, TideFrameHeader *header);

/*
 * Decompresses into raw, or copies: header.raw_len bytes of the caller, who has
 * compared that length with its own limit before it made room.  NULL, or what is wrong.
 */
extern const char *
tide_frame_unpack(const TideFrameHeader *header, const uint8_t *body, uint8_t *raw);

/* ---- records ---- */

typedef struct TideCursor
{
	const uint8_t *at;
	const uint8_t *end;
	bool bad; /* something was shorter than it said; sticky, reads then give zeroes */
} TideCursor;

typedef struct TideStr
{
	const char *data; /* not terminated */
	size_t len;
} TideStr;

typedef struct TideRecord
{
	char type;
	TideCursor payload;
} TideRecord;

extern void tide_cursor_init(TideCursor *cursor, const void *data, size_t len);
extern uint8_t tide_read_u8(TideCursor *cursor);
extern uint16_t tide_read_u16(TideCursor *cursor);
extern uint32_t tide_read_u32(TideCursor *cursor);
extern uint64_t tide_read_u64(TideCursor *cursor);
extern const uint8_t *tide_read_bytes(TideCursor *cursor, size_t len); /* NULL if too short */
extern TideStr tide_read_str(TideCursor *cursor);

/* The next record, of whatever type; false at the end or (records->bad) at damage. */
extern bool tide_record_next(TideCursor *records, TideRecord *record);

typedef struct TideColumn
{
	bool key;
	TideStr name;
	uint32_t type;
	int32_t typmod;
	TideStr type_schema;
	TideStr type_name;
} TideColumn;

typedef struct TideRelation
{
	uint32_t relid;
	uint64_t fingerprint; /* of everything below: equal means equal shape */
	char replident;
	TideStr schema;
	TideStr name;
	uint16_t n_columns;
	TideCursor columns; /* tide_read_column() n_columns times */
} TideRelation;

/* false: damaged.  All of it is checked, so that reading columns can't fail afterwards. */
extern bool tide_read_relation(TideCursor payload, TideRelation *relation);
extern bool tide_read_column(TideCursor *columns, TideColumn *column);

typedef struct TideValue
{
	char kind; /* 'n', 'u', 'b', 't' */
	uint32_t len;
	const uint8_t *data; /* into the frame, not terminated */
} TideValue;

/* Reads a tuple of at most max columns; its number of columns, or -1 (cursor->bad).  NULL: skips. */
extern int tide_read_tuple(TideCursor *cursor, TideValue *values, int max);

/* ---- writing records ---- */

extern bool tide_write_u8(TideBuf *buf, uint8_t value);
extern bool tide_write_u16(TideBuf *buf, uint16_t value);
extern bool tide_write_u32(TideBuf *buf, uint32_t value);
extern bool tide_write_u64(TideBuf *buf, uint64_t value);
extern bool tide_write_str(TideBuf *buf, const char *data, size_t len);

/* Begins a record and returns where; tide_record_end fills in its length. */
extern size_t tide_record_begin(TideBuf *buf, char type);
extern void tide_record_end(TideBuf *buf, size_t begun);

#endif /* TIDE_FRAME_H */
