/*
 * fuzz_capture.c
 *		Fuzzes capture with streams of pgoutput's messages.
 *
 * Owns: that whatever a server sends is refused or ends up in frames that are
 * self-contained and form a chain.
 *
 * Input: for each message two bytes of length, the message, and a byte that
 * says what to do after it: bit 0 makes a frame, bit 1 of parts too, bit 2 even
 * an empty one, bit 3 a compressed one; bits 4 to 7, if not zero, advance the position.
 */
#include "fuzz.h"

#include "tide_capture.h"

#define MAX_RELATIONS 64

typedef struct Reader
{
	uint64_t position;
	bool open;
	uint32_t relids[MAX_RELATIONS]; /* that this frame describes */
	int n_columns[MAX_RELATIONS];
	int n;
} Reader;

static int
find(const Reader *reader, uint32_t relid)
{
	for (int i = reader->n - 1; i >= 0; i--)
	{
		if (reader->relids[i] == relid)
			return i;
	}
	return -1;
}

static void
read_relation(Reader *reader, TideCursor payload)
{
	TideRelation relation;

	CHECK(tide_read_relation(payload, &relation));
	CHECK(relation.schema.len > 0);
	if (reader->n == MAX_RELATIONS)
		reader->n = 0; /* forgets some: then less is checked */
	reader->relids[reader->n] = relation.relid;
	reader->n_columns[reader->n++] = relation.n_columns;
}

static void
read_tuple(const Reader *reader, uint32_t relid, TideCursor *payload)
{
	int i = find(reader, relid);
	int n = tide_read_tuple(payload, NULL, TIDE_FRAME_MAX_COLUMNS);

	CHECK(n >= 0);
	CHECK(i >= 0 ? n == reader->n_columns[i] : reader->n == MAX_RELATIONS);
}

static void
read_change(const Reader *reader, TideRecord *record)
{
	TideCursor *payload = &record->payload;
	uint32_t relid = tide_read_u32(payload);
	uint8_t kind = record->type == 'I' ? 0 : tide_read_u8(payload);

	CHECK(kind == 0 || kind == 'K' || kind == 'O');
	CHECK(record->type != 'D' || kind != 0);
	if (kind != 0)
		read_tuple(reader, relid, payload);
	if (record->type != 'D')
		read_tuple(reader, relid, payload);
}

static void
read_truncate(const Reader *reader, TideCursor *payload)
{
	uint32_t n;

	tide_read_u8(payload);
	n = tide_read_u32(payload);
	CHECK(n > 0);
	while (n-- > 0 && !payload->bad)
		CHECK(find(reader, tide_read_u32(payload)) >= 0 || reader->n == MAX_RELATIONS);
}

/* One record; returns whether the reader is inside a transaction after it. */
static bool
read_record(Reader *reader, bool inside, TideRecord *record)
{
	TideCursor *payload = &record->payload;

	if (record->type == 'R')
	{
		read_relation(reader, *payload);
		return inside;
	}
	CHECK(inside == (record->type != 'B'));
	switch (record->type)
	{
		case 'B':
			CHECK(tide_read_bytes(payload, 20) != NULL);
			break;
		case 'C':
		case 'H':
			tide_read_u64(payload);
			break;
		case 'T':
			read_truncate(reader, payload);
			break;
		default:
			CHECK(strchr("IUD", record->type) != NULL);
			read_change(reader, record);
	}
	CHECK(!payload->bad && payload->at == payload->end);
	return record->type != 'C';
}

static void
read_frame(Reader *reader, const TideBuf *frame)
{
	TideFrameHeader header;
	const uint8_t *body;
	uint8_t *raw;
	TideCursor records;
	TideRecord record;
	bool inside = false;

	CHECK(tide_frame_open(frame->data, frame->len, &header, &body) == NULL);
	CHECK(header.start == reader->position);
	CHECK(((header.flags & TIDE_FRAME_CONTINUES) != 0) == reader->open);
	reader->open = (header.flags & TIDE_FRAME_OPEN) != 0;
	reader->position = header.end;
	reader->n = 0;
	raw = malloc(header.raw_len > 0 ? header.raw_len : 1);
	CHECK(raw != NULL);
	CHECK(tide_frame_unpack(&header, body, raw) == NULL);
	tide_cursor_init(&records, raw, header.raw_len);
	while (tide_record_next(&records, &record))
		inside = read_record(reader, inside, &record);
	CHECK(!records.bad);
	CHECK(inside == (reader->open && header.raw_len > 0));
	free(raw);
}

static void
act(TideCapture *capture, Reader *reader, uint8_t what)
{
	uint64_t before = tide_capture_position(capture);
	TideBuf frame;
	bool made;

	if (what >> 4 != 0)
		tide_capture_advance(capture, before + (what >> 4));
	CHECK(tide_capture_position(capture) >= before);
	if ((what & 1) == 0)
		return;
	tide_buf_init(&frame);
	CHECK(tide_capture_frame(capture, (what & 2) != 0, (what & 4) != 0, (what & 8) != 0 ? 1 : 0, 0,
							 0, &frame, &made));
	if (made)
		read_frame(reader, &frame);
	else
		CHECK((what & 4) == 0);
	tide_buf_free(&frame);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	TideCapture *capture = tide_capture_new("fuzz", 1, 1, 0);
	Reader reader = {0};
	TideCursor input;
	const char *wrong = NULL;

	CHECK(capture != NULL);
	tide_cursor_init(&input, data, size);
	while (wrong == NULL && !input.bad && input.at < input.end)
	{
		size_t len = tide_read_u16(&input);
		const uint8_t *message = tide_read_bytes(&input, len);
		char *exact;

		if (message == NULL)
			break;
		exact = fuzz_string(message, len);
		wrong = tide_capture_message(capture, exact, len);
		free(exact);
		if (wrong == NULL)
			act(capture, &reader, tide_read_u8(&input));
	}
	/* What is whole comes out, however it was cut. */
	while (wrong == NULL && tide_capture_transactions(capture) > 0)
		act(capture, &reader, 1);
	tide_capture_free(capture);
	return 0;
}
