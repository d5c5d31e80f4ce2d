/*
 * common_frame.c
 *		Tests of frames and of the records in them.
 *
 * Owns: that what is written is read again, that nothing damaged is taken, that
 * no length makes a reader leave its bytes.
 */
#include "common_test.h"

#include "tide_crc.h"
#include "tide_frame.h"

#define FRAME_MAX 6000

static const TideFrameHeader sample = {
	.start = UINT64_C(0x0000000116B3A748),
	.end = UINT64_C(0x0000000116B3A900),
	.system_id = UINT64_C(7000000000000000001),
	.timeline = 3,
	.built_us = INT64_C(1795269893841175),
	.wal_end = UINT64_C(0x0000000116B3B000),
	.n_transactions = 2,
	.n_changes = 5,
	.origin = "eu-1",
	.origin_len = 4,
};

/* The frame in memory of exactly its size, so that a sanitizer sees reading past it. */
static const char *
open_exact(const void *frame, size_t len, TideFrameHeader *header, uint8_t **copy,
		   const uint8_t **body)
{
	*copy = malloc(len > 0 ? len : 1);
	assert_non_null(*copy);
	memcpy(*copy, frame, len);
	return tide_frame_open(*copy, len, header, body);
}

static void
checksum(void **state)
{
	char data[600];
	uint32_t whole;

	(void) state;
	assert_int_equal(tide_crc32c(0, "123456789", 9), 0xE3069283);
	assert_int_equal(tide_crc32c(0, "", 0), 0);
	/* RFC 3720, appendix B.4. */
	memset(data, 0, 32);
	assert_int_equal(tide_crc32c(0, data, 32), 0x8A9136AA);
	memset(data, 0xFF, 32);
	assert_int_equal(tide_crc32c(0, data, 32), 0x62A8AB43);
	for (int i = 0; i < 32; i++)
		data[i] = (char) i;
	assert_int_equal(tide_crc32c(0, data, 32), 0x46DD794E);

	test_seed("checksum");
	test_bytes(data, sizeof(data));
	whole = tide_crc32c(0, data, sizeof(data));
	for (size_t cut = 0; cut <= sizeof(data); cut++)
	{
		uint32_t crc = tide_crc32c(0, data, cut);

		assert_int_equal(tide_crc32c(crc, data + cut, sizeof(data) - cut), whole);
		assert_int_equal(tide_crc32c_portable(0, data, cut), crc);
	}
}

static void
layout(void **state)
{
	/* What the comment in tide_frame.h says, byte by byte. */
	static const char expected[] =
		"\x54\x44\x46\x31\x02\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x06"
		"\xFF\xFF\xFF\xFF\x00\x00\x00\x01\x16\xB3\xA7\x48\x00\x00\x00\x01"
		"\x16\xB3\xA9\x00\x61\x24\xFE\xE9\x93\xBC\x00\x01\x00\x00\x00\x03"
		"\x00\x06\x60\xC9\xD8\x4C\x61\x17\x00\x00\x00\x01\x16\xB3\xB0\x00"
		"\x00\x00\x00\x02\x00\x00\x00\x05\x04\x65\x75\x2D\x31\x48\x00\x00"
		"\x00\x01\x78";
	TideFrameHeader header = sample;
	TideBuf out;

	(void) state;
	header.flags = TIDE_FRAME_CONTINUES;
	tide_buf_init(&out);
	assert_true(tide_frame_build(&header, "H\0\0\0\1x", 6, 0, &out));
	assert_int_equal(out.len, TIDE_FRAME_HEADER + 4 + 6);
	assert_int_equal(sizeof(expected) - 1, out.len);
	memset(out.data + 16, 0xFF, 4);
	assert_memory_equal(out.data, expected, out.len);
	tide_buf_free(&out);
}

static void
random_header(TideFrameHeader *header, char *origin)
{
	static const char letters[] = "abcXYZ019_-";

	*header = (TideFrameHeader){.start = test_random() >> 1, .system_id = test_random()};
	header->end = header->start + test_random() % 1000000;
	header->timeline = (uint32_t) test_random();
	header->built_us = (int64_t) test_random();
	header->wal_end = test_random();
	header->n_transactions = (uint32_t) test_random();
	header->n_changes = (uint32_t) test_random();
	header->flags = test_below(2) == 0 ? TIDE_FRAME_CONTINUES : 0;
	if (test_below(4) == 0)
	{
		header->flags |= TIDE_FRAME_OPEN;
		header->end = header->start;
		header->n_transactions = 0;
	}
	header->origin = origin;
	header->origin_len = (uint8_t) (1 + test_below(63));
	for (int i = 0; i < header->origin_len; i++)
		origin[i] = letters[test_below(strlen(letters))];
}

static void
assert_same_header(const TideFrameHeader *a, const TideFrameHeader *b)
{
	assert_int_equal(a->flags, b->flags & ~TIDE_FRAME_ZSTD);
	assert_true(a->start == b->start && a->end == b->end && a->system_id == b->system_id);
	assert_true(a->built_us == b->built_us && a->wal_end == b->wal_end);
	assert_int_equal(a->timeline, b->timeline);
	assert_int_equal(a->n_transactions, b->n_transactions);
	assert_int_equal(a->n_changes, b->n_changes);
	assert_int_equal(a->origin_len, b->origin_len);
	assert_memory_equal(a->origin, b->origin, a->origin_len);
}

/* Builds, opens and unpacks; returns whether it was compressed. */
static bool
round_trip(const TideFrameHeader *header, const char *records, size_t len, int level, TideBuf *out)
{
	TideFrameHeader back;
	const uint8_t *body;
	uint8_t *copy;
	uint8_t *raw;

	assert_true(tide_frame_build(header, records, len, level, out));
	assert_null(open_exact(out->data, out->len, &back, &copy, &body));
	assert_same_header(header, &back);
	assert_int_equal(back.raw_len, len);
	assert_true(back.body_len <= len);
	assert_int_equal(back.level, (back.flags & TIDE_FRAME_ZSTD) != 0 ? level : 0);
	assert_int_equal((back.flags & TIDE_FRAME_ZSTD) != 0, back.body_len < back.raw_len);
	raw = malloc(len > 0 ? len : 1);
	assert_non_null(raw);
	assert_null(tide_frame_unpack(&back, body, raw));
	assert_memory_equal(raw, records, len);
	free(raw);
	free(copy);
	return (back.flags & TIDE_FRAME_ZSTD) != 0;
}

static void
round_trips(void **state)
{
	int compressed = 0;
	TideBuf out;

	(void) state;
	test_seed("round_trips");
	tide_buf_init(&out);
	for (int i = 0; i < 2000; i++)
	{
		char records[FRAME_MAX];
		char origin[64];
		size_t len = test_below(3) == 0 ? test_below(20) : test_below(FRAME_MAX);
		TideFrameHeader header;

		random_header(&header, origin);
		if (test_below(2) == 0)
			test_bytes(records, len);
		else
			memset(records, (int) test_below(256), len);
		compressed += round_trip(&header, records, len, (int) test_below(6), &out) ? 1 : 0;
	}
	assert_in_range(compressed, 100, 1900);
	tide_buf_free(&out);
}

/* Every one of zstd's levels that an option may name. */
static void
levels(void **state)
{
	char records[FRAME_MAX];
	TideBuf out;

	(void) state;
	for (size_t i = 0; i < sizeof(records); i++)
		records[i] = (char) (i % 37 * (i % 5));
	tide_buf_init(&out);
	for (int level = 0; level <= 19; level++)
		assert_int_equal(round_trip(&sample, records, sizeof(records), level, &out), level > 0);
	tide_buf_free(&out);
}

static void *
no_memory(void *ptr, size_t size)
{
	(void) ptr;
	(void) size;
	return NULL;
}

static void
refuses_to_build(void **state)
{
	static const char *const bad[] = {"", "a b", "a.b", "a\nb", "\xC3\xA4"};
	static const char records[150];
	TideFrameHeader header = sample;
	TideBuf out;
	char memory[200];

	(void) state;
	tide_buf_init(&out);
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		header.origin = bad[i];
		header.origin_len = (uint8_t) strlen(bad[i]);
		assert_false(tide_frame_build(&header, "", 0, 0, &out));
	}
	/* Too long; nothing of it is looked at. */
	assert_false(tide_frame_build(&sample, "", TIDE_FRAME_MAX_RAW + 1, 0, &out));
	tide_buf_free(&out);

	tide_buf_init_with(&out, no_memory, NULL);
	assert_false(tide_frame_build(&sample, "", 0, 0, &out));
	tide_buf_init_fixed(&out, memory, sizeof(memory));
	assert_true(tide_frame_build(&sample, records, 100, 0, &out));
	assert_false(tide_frame_build(&sample, records, 150, 0, &out));
}

/* A frame of records that compress, and one that is stored. */
static void
make_frame(TideBuf *out, int level)
{
	char records[400];

	for (size_t i = 0; i < sizeof(records); i++)
		records[i] = (char) (i % 7);
	assert_true(tide_frame_build(&sample, records, sizeof(records), level, out));
}

/* What is built says the same of itself unchecked. */
static void
peeked(void **state)
{
	TideBuf out;

	(void) state;
	tide_buf_init(&out);
	for (int level = 0; level <= 3; level += 3)
	{
		TideFrameHeader opened;
		TideFrameHeader header;
		const uint8_t *body;

		memset(&opened, 0, sizeof(opened));
		memset(&header, 0, sizeof(header));
		make_frame(&out, level);
		assert_null(tide_frame_open(out.data, out.len, &opened, &body));
		tide_frame_peek(out.data, out.len, &header);
		assert_memory_equal(&header, &opened, sizeof(header));
	}
	tide_buf_free(&out);
}

static void
truncation(void **state)
{
	TideBuf out;

	(void) state;
	tide_buf_init(&out);
	for (int level = 0; level <= 3; level += 3)
	{
		make_frame(&out, level);
		for (size_t len = 0; len < out.len; len++)
		{
			TideFrameHeader header;
			const uint8_t *body;
			uint8_t *copy;

			assert_non_null(open_exact(out.data, len, &header, &copy, &body));
			free(copy);
		}
		/* One byte more is no frame either. */
		{
			TideFrameHeader header;
			const uint8_t *body;

			assert_non_null(tide_frame_open(out.data, out.len + 1, &header, &body));
			assert_null(tide_frame_open(out.data, out.len, &header, &body));
		}
	}
	tide_buf_free(&out);
}

static void
bit_flips(void **state)
{
	TideBuf out;
	TideFrameHeader header;
	const uint8_t *body;

	(void) state;
	test_seed("bit_flips");
	tide_buf_init(&out);
	for (int level = 0; level <= 3; level += 3)
	{
		make_frame(&out, level);
		for (size_t bit = 0; bit < out.len * 8; bit++)
		{
			out.data[bit / 8] = (char) (out.data[bit / 8] ^ 1 << bit % 8);
			assert_non_null(tide_frame_open(out.data, out.len, &header, &body));
			out.data[bit / 8] = (char) (out.data[bit / 8] ^ 1 << bit % 8);
		}
		/* A burst of up to 32 bits is always seen. */
		for (int i = 0; i < 20000; i++)
		{
			size_t at = test_below(out.len - 4);
			char kept[4];

			memcpy(kept, out.data + at, 4);
			test_bytes(out.data + at, 4);
			if (memcmp(kept, out.data + at, 4) != 0)
				assert_non_null(tide_frame_open(out.data, out.len, &header, &body));
			memcpy(out.data + at, kept, 4);
		}
		assert_null(tide_frame_open(out.data, out.len, &header, &body));
	}
	tide_buf_free(&out);
}

/* Gives a frame that was changed the checksum it would have if it were meant so. */
static void
seal(TideBuf *frame)
{
	uint32_t crc;

	memset(frame->data + 16, 0, 4);
	crc = tide_crc32c(0, frame->data, frame->len);
	for (int i = 0; i < 4; i++)
		frame->data[16 + i] = (char) (crc >> (24 - 8 * i));
}

/* Somebody who can compute a checksum: lies are refused or harmless all the same. */
static void
lies(void **state)
{
	static const struct
	{
		size_t at;
		uint8_t value;
		bool refused;
		const char *what;
	} cases[] = {
		{0, 'X', true, "magic"},
		{3, '2', true, "version"},
		{4, 0x80, true, "unknown flag"},
		{4, TIDE_FRAME_OPEN, true, "open, and a transaction ends"},
		{4, TIDE_FRAME_CONTINUES, false, "continues"},
		{6, 1, false, "reserved"},
		{8, 0x40, true, "raw_len"},
		{11, 1, true, "raw_len of a stored body"},
		{15, 1, true, "body_len"},
		{20, 0xFF, true, "start after end"},
		{28, 0xFF, false, "end"},
		{72, 0, true, "no origin"},
		{72, 3, true, "a shorter origin"},
		{72, 255, true, "an origin past the end"},
		{74, ' ', true, "no name"},
	};
	TideBuf out;

	(void) state;
	tide_buf_init(&out);
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideFrameHeader header;
		const uint8_t *body;
		const char *wrong;

		make_frame(&out, 0);
		out.data[cases[i].at] = (char) cases[i].value;
		seal(&out);
		wrong = tide_frame_open(out.data, out.len, &header, &body);
		if ((wrong != NULL) != cases[i].refused)
			fail_msg("%s: %s", cases[i].what, wrong != NULL ? wrong : "taken");
	}
	tide_buf_free(&out);
}

/* A body that is not what zstd made, or makes more or less than the header says. */
static void
bad_bodies(void **state)
{
	TideBuf out;
	int refused = 0;

	(void) state;
	test_seed("bad_bodies");
	tide_buf_init(&out);
	for (int i = 0; i < 20000; i++)
	{
		TideFrameHeader header;
		const uint8_t *body;
		uint8_t *raw;

		make_frame(&out, 3);
		if (i % 3 == 0)
			out.data[10] = (char) test_random(); /* raw_len */
		else
			out.data[77 + test_below(out.len - 77)] = (char) test_random();
		seal(&out);
		assert_null(tide_frame_open(out.data, out.len, &header, &body));
		raw = malloc(header.raw_len + 1);
		assert_non_null(raw);
		if (tide_frame_unpack(&header, body, raw) != NULL)
			refused++;
		else
			assert_int_equal(header.raw_len, 400);
		free(raw);
	}
	assert_in_range(refused, 5000, 20000);
	tide_buf_free(&out);
}

/* ---- records ---- */

static void
integers_and_strings(void **state)
{
	TideBuf buf;
	TideCursor cursor;
	TideStr str;
	char long_name[65536];

	(void) state;
	memset(long_name, 'x', sizeof(long_name));
	tide_buf_init(&buf);
	tide_write_u8(&buf, 0xFE);
	tide_write_u16(&buf, 0xFEDC);
	tide_write_u32(&buf, 0xFEDCBA98);
	tide_write_u64(&buf, UINT64_C(0xFEDCBA9876543210));
	tide_write_str(&buf, "name", 4);
	tide_write_str(&buf, "", 0);
	assert_true(tide_write_str(&buf, long_name, 65535));
	tide_cursor_init(&cursor, buf.data, buf.len);
	assert_int_equal(tide_read_u8(&cursor), 0xFE);
	assert_int_equal(tide_read_u16(&cursor), 0xFEDC);
	assert_int_equal(tide_read_u32(&cursor), 0xFEDCBA98);
	assert_true(tide_read_u64(&cursor) == UINT64_C(0xFEDCBA9876543210));
	str = tide_read_str(&cursor);
	assert_int_equal(str.len, 4);
	assert_memory_equal(str.data, "name", 4);
	assert_int_equal(tide_read_str(&cursor).len, 0);
	assert_int_equal(tide_read_str(&cursor).len, 65535);
	assert_true(cursor.at == cursor.end && !cursor.bad);
	assert_int_equal(tide_read_u8(&cursor), 0);
	assert_true(cursor.bad);

	/* Sticky: what would fit is not read any more. */
	tide_cursor_init(&cursor, "\0\3abc", 5);
	assert_true(tide_read_u64(&cursor) == 0);
	assert_int_equal(tide_read_str(&cursor).len, 0);
	assert_null(tide_read_bytes(&cursor, 1));
	/* A zero byte in a string. */
	tide_cursor_init(&cursor, "\0\3a\0c", 5);
	assert_int_equal(tide_read_str(&cursor).len, 0);
	assert_true(cursor.bad);
	/* Nothing at all. */
	tide_cursor_init(&cursor, NULL, 0);
	assert_non_null(tide_read_bytes(&cursor, 0));
	assert_null(tide_read_bytes(&cursor, 1));
	/* A string too long is not cut. */
	assert_false(tide_write_str(&buf, long_name, 65536));
	assert_true(buf.oom);
	tide_buf_free(&buf);
}

#define MAX_TUPLE 12

static void
write_tuple(TideBuf *buf, TideValue *values, int n)
{
	static const uint8_t data[300] = {1, 2, 3};

	tide_write_u16(buf, (uint16_t) n);
	for (int i = 0; i < n; i++)
	{
		values[i] = (TideValue){.kind = "nubt"[test_below(4)]};
		tide_write_u8(buf, (uint8_t) values[i].kind);
		if (values[i].kind == 'n' || values[i].kind == 'u')
			continue;
		values[i].len = (uint32_t) test_below(sizeof(data));
		tide_write_u32(buf, values[i].len);
		tide_buf_append(buf, data, values[i].len);
	}
}

static void
tuples(void **state)
{
	(void) state;
	test_seed("tuples");
	for (int round = 0; round < 3000; round++)
	{
		TideValue written[MAX_TUPLE];
		TideValue values[MAX_TUPLE];
		int n = (int) test_below(MAX_TUPLE + 1);
		TideBuf buf;
		TideCursor cursor;
		uint8_t *exact;

		tide_buf_init(&buf);
		write_tuple(&buf, written, n);
		tide_cursor_init(&cursor, buf.data, buf.len);
		assert_int_equal(tide_read_tuple(&cursor, values, MAX_TUPLE), n);
		assert_true(cursor.at == cursor.end);
		for (int i = 0; i < n; i++)
		{
			assert_int_equal(values[i].kind, written[i].kind);
			assert_int_equal(values[i].len, written[i].len);
		}
		/* Too many columns for the caller. */
		tide_cursor_init(&cursor, buf.data, buf.len);
		if (n > 0)
			assert_int_equal(tide_read_tuple(&cursor, values, n - 1), -1);
		/* Shorter by some bytes. */
		exact = malloc(buf.len);
		assert_non_null(exact);
		memcpy(exact, buf.data, buf.len);
		for (size_t len = buf.len - 1; len > 0; len = len / 2)
		{
			tide_cursor_init(&cursor, exact + buf.len - len, 0);
			tide_cursor_init(&cursor, exact, len);
			assert_int_equal(tide_read_tuple(&cursor, NULL, MAX_TUPLE), -1);
			assert_true(cursor.bad);
		}
		free(exact);
		tide_buf_free(&buf);
	}
}

static void
write_relation(TideBuf *buf, int n_columns)
{
	size_t begun = tide_record_begin(buf, 'R');

	tide_write_u32(buf, 16385);
	tide_write_u64(buf, 42);
	tide_write_u8(buf, 'd');
	tide_write_str(buf, "public", 6);
	tide_write_str(buf, "orders", 6);
	tide_write_u16(buf, (uint16_t) n_columns);
	for (int i = 0; i < n_columns; i++)
	{
		tide_write_u8(buf, i == 0);
		tide_write_str(buf, "column", 6);
		tide_write_u32(buf, 23);
		tide_write_u32(buf, (uint32_t) -1);
		tide_write_str(buf, "public", 6);
		tide_write_str(buf, "mood", 4);
	}
	tide_record_end(buf, begun);
}

static void
relations(void **state)
{
	TideBuf buf;
	TideCursor cursor;
	TideRecord record;
	TideRelation relation;
	TideColumn column;

	(void) state;
	tide_buf_init(&buf);
	write_relation(&buf, 3);
	tide_cursor_init(&cursor, buf.data, buf.len);
	assert_true(tide_record_next(&cursor, &record));
	assert_int_equal(record.type, 'R');
	assert_true(tide_read_relation(record.payload, &relation));
	assert_int_equal(relation.relid, 16385);
	assert_true(relation.fingerprint == 42);
	assert_int_equal(relation.replident, 'd');
	assert_memory_equal(relation.name.data, "orders", 6);
	assert_int_equal(relation.n_columns, 3);
	for (int i = 0; i < 3; i++)
	{
		assert_true(tide_read_column(&relation.columns, &column));
		assert_int_equal(column.key, i == 0);
		assert_int_equal(column.type, 23);
		assert_int_equal(column.typmod, -1);
		assert_int_equal(column.name.len, 6);
		assert_memory_equal(column.type_name.data, "mood", 4);
	}
	assert_false(tide_read_column(&relation.columns, &column));
	assert_false(tide_record_next(&cursor, &record));
	assert_false(cursor.bad);

	/* Shorter, longer, more columns than there can be. */
	for (size_t len = 0; len < buf.len - 5; len++)
	{
		tide_cursor_init(&cursor, buf.data + 5, len);
		assert_false(tide_read_relation(cursor, &relation));
	}
	tide_buf_append_char(&buf, 'x');
	tide_cursor_init(&cursor, buf.data + 5, buf.len - 5);
	assert_false(tide_read_relation(cursor, &relation));
	tide_buf_reset(&buf);
	write_relation(&buf, TIDE_FRAME_MAX_COLUMNS);
	tide_cursor_init(&cursor, buf.data + 5, buf.len - 5);
	assert_true(tide_read_relation(cursor, &relation));
	tide_buf_reset(&buf);
	write_relation(&buf, TIDE_FRAME_MAX_COLUMNS + 1);
	tide_cursor_init(&cursor, buf.data + 5, buf.len - 5);
	assert_false(tide_read_relation(cursor, &relation));
	tide_buf_free(&buf);
}

/* Bytes without sense: whatever is read stays inside, and reading ends. */
static void
nonsense(void **state)
{
	(void) state;
	test_seed("nonsense");
	for (int round = 0; round < 20000; round++)
	{
		size_t len = test_below(60);
		char *data = malloc(len > 0 ? len : 1);
		TideCursor cursor;
		TideRecord record;
		TideRelation relation;
		TideValue values[4];
		int n = 0;

		assert_non_null(data);
		test_bytes(data, len);
		for (size_t i = 0; i < len; i++)
		{
			if (test_below(3) != 0)
				data[i] = (char) test_below(3);
		}
		tide_cursor_init(&cursor, data, len);
		while (tide_record_next(&cursor, &record))
		{
			assert_true(++n <= 12);
			tide_read_relation(record.payload, &relation);
			tide_read_tuple(&record.payload, values, 4);
			assert_true(record.payload.at <= record.payload.end);
		}
		assert_true(cursor.bad || cursor.at == cursor.end);
		free(data);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksum),
		cmocka_unit_test(layout),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(levels),
		cmocka_unit_test(refuses_to_build),
		cmocka_unit_test(peeked),
		cmocka_unit_test(truncation),
		cmocka_unit_test(bit_flips),
		cmocka_unit_test(lies),
		cmocka_unit_test(bad_bodies),
		cmocka_unit_test(integers_and_strings),
		cmocka_unit_test(tuples),
		cmocka_unit_test(relations),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests_name("common_frame", tests, NULL, NULL);
}
