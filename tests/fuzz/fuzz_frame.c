/*
 * fuzz_frame.c
 *		Fuzzes frames and the records in them.
 *
 * Owns: that a frame which is taken keeps its promises, that its records can be
 * read whatever they are, and that any bytes come back out of a frame as they went in.
 */
#include "fuzz.h"

#include "tide_crc.h"
#include "tide_frame.h"

#define MAX_RAW (1 << 20) /* this reader's own limit */
#define CRC_AT 16

/* Whatever a record is, reading it stays inside it. */
static void
read_record(TideRecord *record)
{
	TideValue values[8];
	TideRelation relation;
	TideColumn column;
	int n;

	if (tide_read_relation(record->payload, &relation))
	{
		for (int i = 0; i < relation.n_columns; i++)
			CHECK(tide_read_column(&relation.columns, &column));
		CHECK(relation.columns.at == record->payload.end);
		CHECK(memchr(relation.name.data, 0, relation.name.len) == NULL);
	}
	tide_read_u32(&record->payload);
	n = tide_read_tuple(&record->payload, values, 8);
	CHECK(n <= 8 && (n >= 0 || record->payload.bad));
	for (int i = 0; i < n; i++)
	{
		if (values[i].data != NULL)
			CHECK(values[i].data + values[i].len <= record->payload.end);
	}
	CHECK(record->payload.at <= record->payload.end);
}

static void
read_records(const uint8_t *raw, size_t len)
{
	TideCursor records;
	TideRecord record;
	size_t total = 0;

	tide_cursor_init(&records, raw, len);
	while (tide_record_next(&records, &record))
	{
		total += 5 + (size_t) (record.payload.end - record.payload.at);
		CHECK(record.payload.end <= records.end);
		read_record(&record);
	}
	CHECK(records.bad || (total == len && records.at == records.end));
}

static void
read_frame(const uint8_t *data, size_t size)
{
	TideFrameHeader header;
	const uint8_t *body;
	uint8_t *raw;

	if (tide_frame_open(data, size, &header, &body) != NULL)
		return;
	CHECK(body + header.body_len == data + size);
	CHECK(header.start <= header.end && header.raw_len <= TIDE_FRAME_MAX_RAW);
	CHECK(header.origin_len >= 1 && header.origin_len <= 63);
	if (header.raw_len > MAX_RAW)
		return;
	raw = malloc(header.raw_len > 0 ? header.raw_len : 1);
	CHECK(raw != NULL);
	if (tide_frame_unpack(&header, body, raw) == NULL)
		read_records(raw, header.raw_len);
	free(raw);
}

/* The same with the checksum put right, or nothing would ever come past it. */
static void
read_sealed(const uint8_t *data, size_t size)
{
	uint8_t *copy;
	uint32_t crc;

	if (size < TIDE_FRAME_HEADER)
		return;
	copy = malloc(size);
	CHECK(copy != NULL);
	memcpy(copy, data, size);
	memset(copy + CRC_AT, 0, 4);
	crc = tide_crc32c(0, copy, size);
	for (int i = 0; i < 4; i++)
		copy[CRC_AT + i] = (uint8_t) (crc >> (24 - 8 * i));
	read_frame(copy, size);
	free(copy);
}

static void
round_trip(const uint8_t *data, size_t size)
{
	const TideFrameHeader header = {.start = size, .end = size, .origin = "fuzz", .origin_len = 4};
	TideFrameHeader back;
	const uint8_t *body;
	uint8_t *raw = malloc(size > 0 ? size : 1);
	TideBuf out;

	CHECK(raw != NULL);
	tide_buf_init(&out);
	CHECK(tide_frame_build(&header, data, size, size > 0 ? data[0] % 4 : 0, &out));
	CHECK(tide_frame_open(out.data, out.len, &back, &body) == NULL);
	CHECK(back.raw_len == size && back.body_len <= size && back.start == size);
	CHECK(tide_frame_unpack(&back, body, raw) == NULL);
	CHECK(size == 0 || memcmp(raw, data, size) == 0);
	tide_buf_free(&out);
	free(raw);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_frame(data, size);
	read_sealed(data, size);
	read_records(data, size);
	round_trip(data, size);
	return 0;
}
