/*
 * common_capture.c
 *		Tests of capture: from pgoutput's messages to frames.
 *
 * Owns: what is left out, what every frame must hold whatever comes and wherever
 * it is cut, what is refused.
 *
 * A test looks at a frame as text: one item a record, see describe().
 */
#include "common_test.h"

#include "pgoutput_test.h"
#include "tide_capture.h"

#define EPOCH_US (INT64_C(946684800) * 1000000)
#define TABLE 16400u
#define COLUMNS 2

static TideBuf message; /* the message of the moment */
static TideBuf frame;
static TideBuf text;

static TideCapture *
new_capture(void)
{
	TideCapture *capture = tide_capture_new("eu", 77, 3, 1000);

	assert_non_null(capture);
	return capture;
}

/* Gives the message in buf to capture, in memory of exactly its size. */
static const char *
give(TideCapture *capture)
{
	char *exact = malloc(message.len);
	const char *wrong;

	assert_non_null(exact);
	memcpy(exact, message.data, message.len);
	wrong = tide_capture_message(capture, exact, message.len);
	free(exact);
	return wrong;
}

static void
take(TideCapture *capture)
{
	assert_null(give(capture));
}

/* ---- whole messages in one word ---- */

static void
begin(TideCapture *capture, uint64_t lsn)
{
	pg_begin(&message, lsn, 0, 5);
	take(capture);
}

static void
commit(TideCapture *capture, uint64_t lsn)
{
	pg_commit(&message, lsn, lsn + 8);
	take(capture);
}

static void
table(TideCapture *capture, uint32_t relid, const char *name)
{
	pg_relation(&message, relid, "public", name, COLUMNS, 23);
	take(capture);
}

static void
insert(TideCapture *capture, uint32_t relid, uint64_t number)
{
	pg_change(&message, 'I', relid, 0, number, COLUMNS);
	take(capture);
}

/* ---- frames as text ---- */

static uint64_t
tuple_number(TideCursor *payload)
{
	TideValue values[8];
	uint64_t number = 0;
	int n = tide_read_tuple(payload, values, 8);

	assert_true(n >= 1);
	if (values[0].kind != 'b')
		return 0;
	for (uint32_t i = 0; i < values[0].len; i++)
		number = number << 8 | values[0].data[i];
	return number;
}

/* "I 3" and so on; for R the table's name and columns' types. */
static void
describe_record(TideRecord *record)
{
	TideRelation relation;
	uint8_t kind = 0;

	tide_buf_printf(&text, "%s%c", text.len > 0 ? ", " : "", record->type);
	switch (record->type)
	{
		case 'R':
			assert_true(tide_read_relation(record->payload, &relation));
			tide_buf_printf(&text, " %.*s", (int) relation.name.len, relation.name.data);
			return;
		case 'B':
		case 'C':
			tide_buf_printf(&text, " %llu", (unsigned long long) tide_read_u64(&record->payload));
			return;
		case 'H':
			tide_buf_printf(&text, " %llu", (unsigned long long) tide_read_u64(&record->payload));
			break;
		case 'T':
			tide_buf_printf(&text, " %d", tide_read_u8(&record->payload));
			for (uint32_t n = tide_read_u32(&record->payload); n > 0; n--)
				tide_buf_printf(&text, " %u", tide_read_u32(&record->payload));
			break;
		default:
			tide_read_u32(&record->payload);
			if (record->type != 'I')
				kind = tide_read_u8(&record->payload);
			if (kind != 0)
				tide_buf_printf(&text, " %c%llu", kind,
								(unsigned long long) tuple_number(&record->payload));
			if (record->type != 'D')
				tide_buf_printf(&text, " %llu",
								(unsigned long long) tuple_number(&record->payload));
	}
	assert_true(record->payload.at == record->payload.end);
	assert_false(record->payload.bad);
}

/* The frame that was made last: its header, and its records into text. */
static TideFrameHeader
describe(void)
{
	static uint8_t raw[1 << 20];
	TideFrameHeader header;
	const uint8_t *body;
	TideCursor records;
	TideRecord record;

	assert_null(tide_frame_open(frame.data, frame.len, &header, &body));
	assert_in_range(header.raw_len, 0, sizeof(raw));
	assert_null(tide_frame_unpack(&header, body, raw));
	tide_buf_reset(&text);
	tide_cursor_init(&records, raw, header.raw_len);
	while (tide_record_next(&records, &record))
		describe_record(&record);
	assert_false(records.bad);
	return header;
}

static bool
make(TideCapture *capture, bool partial, bool even_empty)
{
	bool made;

	assert_true(tide_capture_frame(capture, partial, even_empty, 0, 111, 222, &frame, &made));
	return made;
}

/* Makes a frame and compares its positions, flags and records. */
static void
expect(TideCapture *capture, bool partial, int flags, uint64_t start, uint64_t end,
	   const char *records)
{
	TideFrameHeader header;

	assert_true(make(capture, partial, false));
	header = describe();
	assert_string_equal(tide_buf_cstr(&text), records);
	assert_int_equal(header.flags, flags);
	assert_int_equal(header.start, start);
	assert_int_equal(header.end, end);
}

/* ---- cases ---- */

static void
one_transaction(void **state)
{
	TideCapture *capture = new_capture();
	TideFrameHeader header;

	(void) state;
	assert_false(make(capture, true, false));
	begin(capture, 1100);
	assert_true(tide_capture_in_transaction(capture));
	table(capture, TABLE, "t");
	assert_int_equal(tide_capture_size(capture), 0);
	insert(capture, TABLE, 1);
	pg_change(&message, 'U', TABLE, 0, 2, COLUMNS);
	take(capture);
	pg_change(&message, 'U', TABLE, 'K', 3, COLUMNS);
	take(capture);
	pg_change(&message, 'U', TABLE, 'O', 4, COLUMNS);
	take(capture);
	pg_change(&message, 'D', TABLE, 'K', 5, COLUMNS);
	take(capture);
	pg_change(&message, 'D', TABLE, 'O', 6, COLUMNS);
	take(capture);
	pg_truncate(&message, 3, (uint32_t[]){TABLE, TABLE}, 2);
	take(capture);
	pg_heartbeat(&message, 99);
	take(capture);
	assert_false(make(capture, false, false));
	assert_int_equal(tide_capture_position(capture), 1000);
	commit(capture, 1100);
	assert_false(tide_capture_in_transaction(capture));
	assert_int_equal(tide_capture_position(capture), 1108);
	assert_int_equal(tide_capture_transactions(capture), 1);

	expect(capture, false, 0, 1000, 1108,
		   "B 1100, R t, I 1, U 2, U K3 3, U O4 4, D K5, D O6, T 3 16400 16400, H 99, C 1108");
	header = describe();
	assert_int_equal(header.n_transactions, 1);
	assert_int_equal(header.n_changes, 7);
	assert_int_equal(header.system_id, 77);
	assert_int_equal(header.timeline, 3);
	assert_int_equal(header.built_us, 111);
	assert_int_equal(header.wal_end, 222);
	assert_int_equal(header.origin_len, 2);
	assert_int_equal(tide_capture_size(capture), 0);
	assert_int_equal(tide_capture_transactions(capture), 0);
	assert_false(make(capture, true, false));
	tide_capture_free(capture);
}

static void
begin_has_unix_time(void **state)
{
	TideCapture *capture = new_capture();
	TideFrameHeader header;
	const uint8_t *body;
	TideCursor records;
	TideRecord record;

	(void) state;
	pg_begin(&message, 1100, 1234567, 0xFFFFFFFE);
	take(capture);
	pg_heartbeat(&message, 1);
	take(capture);
	commit(capture, 1100);
	assert_true(make(capture, false, false));
	assert_null(tide_frame_open(frame.data, frame.len, &header, &body));
	tide_cursor_init(&records, body, header.raw_len);
	assert_true(tide_record_next(&records, &record));
	assert_int_equal(tide_read_u64(&record.payload), 1100);
	assert_true(tide_read_u64(&record.payload) == (uint64_t) (EPOCH_US + 1234567));
	assert_int_equal(tide_read_u32(&record.payload), 0xFFFFFFFE);
	assert_int_equal(header.n_changes, 0);
	tide_capture_free(capture);
}

/* Whatever is left out still moves the position. */
static void
left_out(void **state)
{
	static const char short_record[] = "H\0\0\0\7abcdefg";
	static const char other_record[] = "I\0\0\0\10abcdefgh";
	TideCapture *capture = new_capture();

	(void) state;
	/* Empty. */
	begin(capture, 1100);
	commit(capture, 1100);
	assert_int_equal(tide_capture_position(capture), 1108);
	/* Came by a link; but what it announces is remembered. */
	begin(capture, 1200);
	pg_origin(&message);
	take(capture);
	table(capture, TABLE, "t");
	insert(capture, TABLE, 1);
	pg_truncate(&message, 0, (uint32_t[]){TABLE}, 1);
	take(capture);
	pg_heartbeat(&message, 1);
	take(capture);
	commit(capture, 1200);
	assert_int_equal(tide_capture_position(capture), 1208);
	assert_int_equal(tide_capture_size(capture), 0);
	/* Messages of others, and what somebody else wrote under our name. */
	begin(capture, 1300);
	pg_message(&message, true, "tides", "x", 1);
	take(capture);
	pg_message(&message, true, "tid", "", 0);
	take(capture);
	pg_message(&message, true, "tide", "", 0);
	take(capture);
	pg_message(&message, true, "tide", short_record, 12);
	take(capture);
	pg_message(&message, true, "tide", other_record, 13);
	take(capture);
	pg_message(&message, true, "tide", "H\0\0\0\10abcdefghi", 14);
	take(capture);
	pg_message(&message, true, "tide", "H\377\377\377\377abcdefgh", 13);
	take(capture);
	commit(capture, 1300);
	pg_message(&message, false, "tide", "outside", 7);
	take(capture);
	assert_int_equal(tide_capture_size(capture), 0);
	/* A truncate of nothing. */
	begin(capture, 1400);
	pg_truncate(&message, 0, NULL, 0);
	take(capture);
	commit(capture, 1400);
	assert_int_equal(tide_capture_size(capture), 0);
	/* What was in frames before: a slot may send more than was asked for. */
	begin(capture, 1350);
	insert(capture, TABLE, 2);
	commit(capture, 1350);
	assert_int_equal(tide_capture_position(capture), 1408);
	assert_false(make(capture, true, false));

	begin(capture, 1500);
	insert(capture, TABLE, 3);
	commit(capture, 1500);
	expect(capture, true, 0, 1000, 1508, "B 1500, R t, I 3, C 1508");
	tide_capture_free(capture);
}

static void
positions(void **state)
{
	TideCapture *capture = new_capture();
	TideFrameHeader header;

	(void) state;
	assert_true(make(capture, false, true));
	header = describe();
	assert_string_equal(tide_buf_cstr(&text), "");
	assert_true(header.start == 1000 && header.end == 1000 && header.flags == 0);

	tide_capture_advance(capture, 900);
	assert_int_equal(tide_capture_position(capture), 1000);
	tide_capture_advance(capture, 2000);
	begin(capture, 2000);
	tide_capture_advance(capture, 2005);
	assert_int_equal(tide_capture_position(capture), 2000);
	assert_false(make(capture, true, false));
	assert_true(make(capture, true, true));
	header = describe();
	assert_true(header.start == 1000 && header.end == 2000 && header.flags == 0);
	table(capture, TABLE, "t");
	insert(capture, TABLE, 1);
	/* Inside a transaction, and not to be cut: the position before it. */
	assert_true(make(capture, false, true));
	header = describe();
	assert_string_equal(tide_buf_cstr(&text), "");
	assert_true(header.start == 2000 && header.end == 2000 && header.flags == 0);
	commit(capture, 2000);
	tide_capture_advance(capture, 3000);
	expect(capture, false, 0, 2000, 3000, "B 2000, R t, I 1, C 2008");
	tide_capture_free(capture);
}

/* A relation is described once in a frame, and in every frame that names it. */
/* A capture from 1000 on, whose stream must have the transaction that ended at 908 ... */
static TideCapture *
new_expecting(int64_t commit_us)
{
	TideCapture *capture = new_capture();

	tide_capture_expect(capture, 908, commit_us);
	begin(capture, 800);
	commit(capture, 800);
	assert_false(tide_capture_missed(capture));
	return capture;
}

static void
expected_transaction(void **state)
{
	TideCapture *capture = new_expecting(EPOCH_US);

	(void) state;
	/* ... has it, and whatever follows is fine; */
	begin(capture, 900);
	commit(capture, 900);
	tide_capture_advance(capture, 2000);
	assert_false(tide_capture_missed(capture));
	tide_capture_free(capture);
	/* has another one in its place; */
	capture = new_expecting(EPOCH_US + 1);
	begin(capture, 900);
	commit(capture, 900);
	assert_true(tide_capture_missed(capture));
	tide_capture_free(capture);
	/* has one that ends behind it; */
	capture = new_expecting(EPOCH_US);
	begin(capture, 901);
	commit(capture, 901);
	assert_true(tide_capture_missed(capture));
	tide_capture_free(capture);
	/* has none. */
	capture = new_expecting(EPOCH_US);
	tide_capture_advance(capture, 907);
	assert_false(tide_capture_missed(capture));
	tide_capture_advance(capture, 908);
	assert_true(tide_capture_missed(capture));
	tide_capture_free(capture);
}

static void
relations_per_frame(void **state)
{
	TideCapture *capture = new_capture();

	(void) state;
	begin(capture, 1100);
	table(capture, TABLE, "t");
	table(capture, TABLE + 1, "u");
	insert(capture, TABLE, 1);
	insert(capture, TABLE, 2);
	commit(capture, 1100);
	begin(capture, 1200);
	insert(capture, TABLE, 3);
	commit(capture, 1200);
	expect(capture, false, 0, 1000, 1208, "B 1100, R t, I 1, I 2, C 1108, B 1200, I 3, C 1208");

	begin(capture, 1300);
	insert(capture, TABLE + 1, 4);
	insert(capture, TABLE, 5);
	commit(capture, 1300);
	/* Announced again as it was: nothing new.  Announced with a change: described again. */
	begin(capture, 1400);
	table(capture, TABLE, "t");
	insert(capture, TABLE, 6);
	table(capture, TABLE, "v");
	insert(capture, TABLE, 7);
	commit(capture, 1400);
	expect(capture, false, 0, 1208, 1408,
		   "B 1300, R u, I 4, R t, I 5, C 1308, B 1400, I 6, R v, I 7, C 1408");
	tide_capture_free(capture);
}

/* Whole transactions are cut off before an open one that rests on what they describe. */
static void
cut_before_open(void **state)
{
	TideCapture *capture = new_capture();

	(void) state;
	begin(capture, 1100);
	table(capture, TABLE, "t");
	table(capture, TABLE + 1, "u");
	table(capture, TABLE + 2, "v");
	insert(capture, TABLE, 1);
	insert(capture, TABLE + 1, 2);
	insert(capture, TABLE + 2, 3);
	commit(capture, 1100);
	begin(capture, 1200);
	insert(capture, TABLE + 2, 4);
	insert(capture, TABLE, 5);
	table(capture, TABLE, "t2");
	insert(capture, TABLE, 6);
	expect(capture, true, 0, 1000, 1108, "B 1100, R t, I 1, R u, I 2, R v, I 3, C 1108");
	/* In the frame by now: v and t2, not u. */
	insert(capture, TABLE, 7);
	insert(capture, TABLE + 1, 8);
	insert(capture, TABLE + 2, 9);
	commit(capture, 1200);
	begin(capture, 1300);
	insert(capture, TABLE, 10);
	insert(capture, TABLE + 2, 11);
	table(capture, TABLE + 2, "v2");
	expect(capture, true, 0, 1108, 1208,
		   "R v, R t, B 1200, I 4, I 5, R t2, I 6, I 7, R u, I 8, I 9, C 1208");
	insert(capture, TABLE + 2, 12);
	commit(capture, 1300);
	expect(capture, true, 0, 1208, 1308, "R t2, R v, B 1300, I 10, I 11, R v2, I 12, C 1308");
	tide_capture_free(capture);
}

#define OPEN TIDE_FRAME_OPEN
#define CONTINUES TIDE_FRAME_CONTINUES

static void
larger_than_a_frame(void **state)
{
	TideCapture *capture = new_capture();
	TideFrameHeader header;

	(void) state;
	begin(capture, 1050);
	commit(capture, 1050);
	begin(capture, 1100);
	table(capture, TABLE, "t");
	insert(capture, TABLE, 1);
	/* The position has moved on, but an open frame doesn't say so. */
	expect(capture, true, OPEN, 1000, 1000, "B 1100, R t, I 1");
	assert_false(make(capture, true, false));
	assert_true(make(capture, true, true));
	header = describe();
	assert_true(header.flags == (OPEN | CONTINUES) && header.end == 1000 && header.raw_len == 0);
	insert(capture, TABLE, 2);
	insert(capture, TABLE, 3);
	expect(capture, true, OPEN | CONTINUES, 1000, 1000, "B 1100, R t, I 2, I 3");
	header = describe();
	assert_int_equal(header.n_changes, 2);
	assert_int_equal(header.n_transactions, 0);
	insert(capture, TABLE, 4);
	commit(capture, 1100);
	/* What follows is not mixed with it, and describes for itself. */
	begin(capture, 1200);
	insert(capture, TABLE, 5);
	commit(capture, 1200);
	begin(capture, 1300);
	insert(capture, TABLE, 6);
	assert_int_equal(tide_capture_transactions(capture), 2);
	expect(capture, true, CONTINUES, 1000, 1108, "B 1100, R t, I 4, C 1108");
	header = describe();
	assert_int_equal(header.n_changes, 1);
	assert_int_equal(header.n_transactions, 1);
	expect(capture, true, 0, 1108, 1208, "B 1200, R t, I 5, C 1208");
	expect(capture, true, OPEN, 1208, 1208, "R t, B 1300, I 6");
	/* Nothing more comes but the commit. */
	commit(capture, 1300);
	expect(capture, true, CONTINUES, 1208, 1308, "B 1300, C 1308");
	header = describe();
	assert_int_equal(header.n_transactions, 1);
	tide_capture_free(capture);
}

/* The rest of a continued transaction stays while others are dropped or left out after it. */
static void
rest_and_dropped(void **state)
{
	TideCapture *capture = new_capture();

	(void) state;
	begin(capture, 1100);
	table(capture, TABLE, "t");
	insert(capture, TABLE, 1);
	expect(capture, true, OPEN, 1000, 1000, "B 1100, R t, I 1");
	commit(capture, 1100);
	begin(capture, 1200);
	pg_origin(&message);
	take(capture);
	commit(capture, 1200);
	tide_capture_advance(capture, 1500);
	expect(capture, true, CONTINUES, 1000, 1108, "B 1100, C 1108");
	assert_false(make(capture, true, false));
	assert_true(make(capture, true, true));
	assert_true(describe().end == 1500);
	tide_capture_free(capture);
}

static void
type_names(void **state)
{
	TideCapture *capture = new_capture();
	uint8_t raw[4096];
	TideFrameHeader header;
	const uint8_t *body;
	TideCursor records;
	TideRecord record;
	TideRelation relation;
	TideColumn column;
	uint64_t fingerprint = 0;

	(void) state;
	for (int round = 0; round < 3; round++)
	{
		begin(capture, 1100 + 100 * (uint64_t) round);
		pg_type(&message, 16390, round == 2 ? "app" : "", "mood");
		take(capture);
		pg_relation(&message, TABLE, "", "t", COLUMNS, 16390);
		take(capture);
		insert(capture, TABLE, 1);
		commit(capture, 1100 + 100 * (uint64_t) round);
		assert_true(make(capture, false, false));
		assert_null(tide_frame_open(frame.data, frame.len, &header, &body));
		assert_null(tide_frame_unpack(&header, body, raw));
		tide_cursor_init(&records, raw, header.raw_len);
		assert_true(tide_record_next(&records, &record) && record.type == 'B');
		assert_true(tide_record_next(&records, &record) && record.type == 'R');
		assert_true(tide_read_relation(record.payload, &relation));
		assert_int_equal(relation.schema.len, 10);
		assert_memory_equal(relation.schema.data, "pg_catalog", 10);
		/* The same shape twice, then another. */
		assert_int_equal(relation.fingerprint == fingerprint, round == 1);
		fingerprint = relation.fingerprint;
		assert_true(tide_read_column(&relation.columns, &column));
		assert_int_equal(column.type, 16390);
		assert_int_equal(column.type_name.len, 4);
		assert_memory_equal(column.type_name.data, "mood", 4);
		assert_memory_equal(column.type_schema.data, round == 2 ? "app" : "pg_catalog",
							column.type_schema.len);
	}
	tide_capture_free(capture);
}

/* ---- what is refused ---- */

static void
refused(TideCapture *capture, const char *wanted)
{
	const char *wrong = give(capture);

	assert_non_null(wrong);
	if (strstr(wrong, wanted) == NULL)
		fail_msg("\"%s\" does not contain \"%s\"", wrong, wanted);
	tide_capture_free(capture);
}

static void
refuses_order(void **state)
{
	static const char outside[] = "IUDTOC";
	TideCapture *capture;

	(void) state;
	for (size_t i = 0; i < strlen(outside); i++)
	{
		pg_start(&message, outside[i]);
		refused(new_capture(), outside[i] == 'O' ? "beginning" : "outside a transaction");
	}
	pg_heartbeat(&message, 1);
	refused(new_capture(), "outside a transaction");
	capture = new_capture();
	begin(capture, 1100);
	pg_begin(&message, 1200, 0, 5);
	refused(capture, "inside a transaction");
	/* An origin after changes. */
	capture = new_capture();
	begin(capture, 1100);
	pg_heartbeat(&message, 1);
	take(capture);
	pg_origin(&message);
	refused(capture, "beginning of a transaction");
	capture = new_capture();
	begin(capture, 1100);
	table(capture, TABLE, "t");
	insert(capture, TABLE, 1);
	expect(capture, true, OPEN, 1000, 1000, "B 1100, R t, I 1");
	pg_origin(&message);
	refused(capture, "beginning of a transaction");
	/* The commit of another one, or one that ends before it begins. */
	capture = new_capture();
	begin(capture, 1100);
	pg_commit(&message, 1101, 1200);
	refused(capture, "another transaction");
	capture = new_capture();
	begin(capture, 1100);
	pg_commit(&message, 1100, 1100);
	refused(capture, "another transaction");
	/* Relations never announced. */
	capture = new_capture();
	begin(capture, 1100);
	pg_change(&message, 'I', TABLE, 0, 1, COLUMNS);
	refused(capture, "not announced");
	capture = new_capture();
	begin(capture, 1100);
	table(capture, TABLE, "t");
	pg_truncate(&message, 0, (uint32_t[]){TABLE, TABLE + 1}, 2);
	refused(capture, "not announced");
	/* More or fewer columns than announced. */
	capture = new_capture();
	begin(capture, 1100);
	table(capture, TABLE, "t");
	pg_change(&message, 'I', TABLE, 0, 1, COLUMNS + 1);
	refused(capture, "columns");
	/* Not the same number in both tuples. */
	capture = new_capture();
	begin(capture, 1100);
	table(capture, TABLE, "t");
	pg_change(&message, 'D', TABLE, 'K', 1, COLUMNS + 1);
	message.data[0] = 'U';
	tide_buf_append_char(&message, 'N');
	pg_tuple(&message, 1, COLUMNS);
	refused(capture, "not as long");
}

static void
refuses_kinds(void **state)
{
	static const char unknown[] = "SEcAbPKrp?\n";
	TideCapture *capture;

	(void) state;
	for (size_t i = 0; i < strlen(unknown); i++)
	{
		pg_start(&message, unknown[i]);
		refused(new_capture(), "not known");
	}
	/* A tuple of a kind that does not belong there. */
	for (int i = 0; i < 3; i++)
	{
		capture = new_capture();
		begin(capture, 1100);
		table(capture, TABLE, "t");
		pg_change(&message, "IUD"[i], TABLE, "KNK"[i], 1, COLUMNS);
		if (i == 2)
			message.data[5] = 'N';
		refused(capture, "not as long");
	}
	assert_null(tide_capture_new("no name", 1, 1, 0));
	assert_null(tide_capture_new("", 1, 1, 0));
	tide_capture_free(NULL);
}

/* Every message, shorter by any number of bytes, or longer by one. */
static void
truncation(void **state)
{
	static const char kinds[] = "BCRYIUuDTM";

	(void) state;
	for (size_t k = 0; k < strlen(kinds); k++)
	{
		size_t full = 1;

		for (size_t len = 0; len <= full + 1; len++)
		{
			TideCapture *capture = new_capture();
			const char *wrong;

			if (kinds[k] != 'B')
				begin(capture, 1100);
			if (kinds[k] == 'B')
				pg_begin(&message, 1100, 0, 5);
			else if (kinds[k] == 'C')
				pg_commit(&message, 1100, 1200);
			else if (kinds[k] == 'R')
				pg_relation(&message, TABLE + 1, "public", "u", COLUMNS, 23);
			else if (kinds[k] == 'Y')
				pg_type(&message, 16500, "public", "mood");
			else if (kinds[k] == 'M')
				pg_heartbeat(&message, 1);
			else
			{
				table(capture, TABLE, "t");
				if (kinds[k] == 'T')
					pg_truncate(&message, 0, (uint32_t[]){TABLE}, 1);
				else if (kinds[k] == 'u')
					pg_change(&message, 'U', TABLE, 'O', 1, COLUMNS);
				else
					pg_change(&message, kinds[k], TABLE, kinds[k] == 'D' ? 'K' : 0, 1, COLUMNS);
			}
			full = message.len;
			if (len > full)
				tide_buf_append_char(&message, 'x');
			else
				message.len = len;
			if (len == 0)
				wrong = tide_capture_message(capture, "", 0);
			else
				wrong = give(capture);
			assert_int_equal(wrong == NULL, len == full);
			tide_capture_free(capture);
		}
	}
}

static int
setup(void **state)
{
	(void) state;
	tide_buf_init(&message);
	tide_buf_init(&frame);
	tide_buf_init(&text);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	tide_buf_free(&message);
	tide_buf_free(&frame);
	tide_buf_free(&text);
	return 0;
}

/* A commit that waits marks its frame, the last one of its transaction, and no other. */
static void
awaited(void **state)
{
	TideCapture *capture = new_capture();

	(void) state;
	begin(capture, 1100);
	pg_message(&message, true, "tide", "Y\0\0\0\1?", 6);
	take(capture);
	commit(capture, 1100);
	assert_false(make(capture, false, false));
	begin(capture, 1200);
	pg_awaited(&message);
	take(capture);
	commit(capture, 1200);
	expect(capture, false, TIDE_FRAME_SYNC, 1000, 1208, "B 1200, C 1208");
	begin(capture, 1300);
	pg_heartbeat(&message, 1);
	take(capture);
	commit(capture, 1300);
	expect(capture, false, 0, 1208, 1308, "B 1300, H 1, C 1308");
	begin(capture, 1400);
	table(capture, TABLE, "t");
	insert(capture, TABLE, 1);
	pg_awaited(&message);
	take(capture);
	expect(capture, true, OPEN, 1308, 1308, "B 1400, R t, I 1");
	commit(capture, 1400);
	begin(capture, 1500);
	insert(capture, TABLE, 2);
	commit(capture, 1500);
	expect(capture, true, CONTINUES | TIDE_FRAME_SYNC, 1308, 1408, "B 1400, C 1408");
	expect(capture, true, 0, 1408, 1508, "B 1500, R t, I 2, C 1508");
	tide_capture_free(capture);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_transaction),
		cmocka_unit_test(begin_has_unix_time),
		cmocka_unit_test(awaited),
		cmocka_unit_test(left_out),
		cmocka_unit_test(positions),
		cmocka_unit_test(expected_transaction),
		cmocka_unit_test(relations_per_frame),
		cmocka_unit_test(cut_before_open),
		cmocka_unit_test(larger_than_a_frame),
		cmocka_unit_test(rest_and_dropped),
		cmocka_unit_test(type_names),
		cmocka_unit_test(refuses_order),
		cmocka_unit_test(refuses_kinds),
		cmocka_unit_test(truncation),
	};

	return cmocka_run_group_tests_name("common_capture", tests, setup, teardown);
}
