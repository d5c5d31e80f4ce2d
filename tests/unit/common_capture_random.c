/*
 * common_capture_random.c
 *		Random streams through capture, cut into frames at random places.
 *
 * Owns: that whatever is cut wherever, the frames together hold every record
 * once and in order, each is self-contained, and they form a chain.
 *
 * The test writes down what it sends, reads the frames back, and compares.
 * Every change has a number of its own; the name of a relation says which
 * version of its shape it is.
 */
#include "common_test.h"

#include "pgoutput_test.h"
#include "tide_capture.h"

#define RELATIONS 5
#define FIRST_RELID 16400u
#define MAX_ITEMS 4000
#define MAX_RAW (1 << 20)

/* What a reader must see, one per record that is not 'R'. */
typedef struct Item
{
	char type;
	int relation;	 /* of a change */
	int version;	 /* of its shape */
	uint64_t number; /* of a change; of 'B' and 'C' the position */
} Item;

static Item items[MAX_ITEMS];
static size_t n_items;

static TideBuf message;
static TideBuf frame;
static uint64_t serial;
static uint64_t lsn; /* what the last transaction ended at */

static struct
{
	int version; /* that the server has */
	bool stale;	 /* to be announced before it is used */
} shapes[RELATIONS];

static void
note(char type, int relation, uint64_t number)
{
	assert_in_range(n_items, 0, MAX_ITEMS - 1);
	items[n_items++] = (Item){.type = type,
							  .relation = relation,
							  .version = relation >= 0 ? shapes[relation].version : 0,
							  .number = number};
}

static void
take(TideCapture *capture)
{
	const char *wrong = tide_capture_message(capture, message.data, message.len);

	if (wrong != NULL)
		fail_msg("%s", wrong);
}

/* ---- the reader ---- */

typedef struct Reader
{
	size_t at;		   /* in items */
	uint64_t position; /* where the next frame must begin */
	bool open;		   /* the frame before left a transaction open */
	uint64_t begun;	   /* that transaction's 'B' */
	size_t n_frames;
	size_t n_open;
	size_t n_borrowed; /* relations described before a 'B' */
} Reader;

/* What a frame has described, by relation; -1: not. */
typedef struct Described
{
	int version[RELATIONS];
} Described;

static void
read_relation(Described *described, TideCursor payload)
{
	TideRelation relation;
	TideColumn column;
	char name[32];
	int version;
	int i;

	assert_true(tide_read_relation(payload, &relation));
	i = (int) (relation.relid - FIRST_RELID);
	assert_in_range(i, 0, RELATIONS - 1);
	assert_in_range(relation.name.len, 1, sizeof(name) - 1);
	memcpy(name, relation.name.data, relation.name.len);
	name[relation.name.len] = '\0';
	assert_int_equal(name[0], 'v');
	version = (int) strtol(name + 1, NULL, 10);
	assert_int_equal(relation.n_columns, 1 + version % 3);
	while (relation.n_columns-- > 0)
		assert_true(tide_read_column(&relation.columns, &column));
	/* Once in a frame, but for another shape. */
	assert_true(described->version[i] != version);
	described->version[i] = version;
}

static void
read_change(const Described *described, const Item *item, TideRecord *record)
{
	TideValue values[3];
	uint64_t number = 0;
	int n = 0;

	assert_int_equal(tide_read_u32(&record->payload) - FIRST_RELID, item->relation);
	assert_int_equal(described->version[item->relation], item->version);
	if (record->type != 'I' && tide_read_u8(&record->payload) != 0 && record->type == 'U')
		n = tide_read_tuple(&record->payload, values, 3);
	assert_true(n == 0 || n == 1 + item->version % 3);
	assert_int_equal(tide_read_tuple(&record->payload, values, 3), 1 + item->version % 3);
	for (uint32_t i = 0; i < values[0].len; i++)
		number = number << 8 | values[0].data[i];
	assert_int_equal(number, item->number);
}

static void
read_record(Reader *reader, const Described *described, TideRecord *record)
{
	const Item *item = &items[reader->at];

	assert_in_range(reader->at, 0, n_items - 1);
	assert_int_equal(record->type, item->type);
	reader->at++;
	switch (record->type)
	{
		case 'B':
			reader->begun = tide_read_u64(&record->payload);
			assert_int_equal(reader->begun, item->number);
			return;
		case 'C':
		case 'H':
			assert_int_equal(tide_read_u64(&record->payload), item->number);
			break;
		case 'T':
			assert_int_equal(tide_read_u8(&record->payload), item->number & 3);
			assert_int_equal(tide_read_u32(&record->payload), 1);
			assert_int_equal(tide_read_u32(&record->payload) - FIRST_RELID, item->relation);
			assert_int_equal(described->version[item->relation], item->version);
			break;
		default:
			read_change(described, item, record);
	}
	assert_true(record->payload.at == record->payload.end);
}

/* The 'B' that a frame repeats which goes on with a transaction. */
static void
read_repeated(Reader *reader, TideRecord *record)
{
	assert_int_equal(record->type, 'B');
	assert_int_equal(tide_read_u64(&record->payload), reader->begun);
}

/* Reads all records; returns the end that the last 'C' names, or 0. */
static uint64_t
read_records(Reader *reader, const TideFrameHeader *header, const uint8_t *raw)
{
	Described described;
	TideCursor records;
	TideRecord record;
	bool repeat = (header->flags & TIDE_FRAME_CONTINUES) != 0;
	bool inside = false;
	uint64_t end = 0;
	uint32_t n_transactions = 0;
	uint32_t n_changes = 0;

	memset(&described, 0xFF, sizeof(described));
	tide_cursor_init(&records, raw, header->raw_len);
	while (tide_record_next(&records, &record))
	{
		if (record.type == 'R')
		{
			reader->n_borrowed += inside ? 0 : 1;
			read_relation(&described, record.payload);
			continue;
		}
		assert_int_equal(inside, record.type != 'B');
		inside = record.type != 'C';
		n_transactions += record.type == 'C';
		n_changes += strchr("IUDT", record.type) != NULL;
		if (record.type == 'C')
			end = items[reader->at].number;
		if (repeat)
			read_repeated(reader, &record);
		else
			read_record(reader, &described, &record);
		repeat = false;
	}
	assert_false(records.bad);
	assert_int_equal(inside, (header->flags & TIDE_FRAME_OPEN) != 0 && header->raw_len > 0);
	assert_int_equal(n_transactions, header->n_transactions);
	assert_int_equal(n_changes, header->n_changes);
	return end;
}

static void
read_frame(Reader *reader)
{
	static uint8_t raw[MAX_RAW];
	TideFrameHeader header;
	const uint8_t *body;
	uint64_t end;

	assert_null(tide_frame_open(frame.data, frame.len, &header, &body));
	assert_in_range(header.raw_len, 0, MAX_RAW);
	assert_null(tide_frame_unpack(&header, body, raw));
	assert_int_equal((header.flags & TIDE_FRAME_CONTINUES) != 0, reader->open);
	assert_int_equal(header.start, reader->position);
	end = read_records(reader, &header, raw);
	reader->open = (header.flags & TIDE_FRAME_OPEN) != 0;
	if ((header.flags & TIDE_FRAME_CONTINUES) != 0 && !reader->open)
	{
		/* The end of that transaction, and nothing else. */
		assert_int_equal(header.n_transactions, 1);
		assert_int_equal(header.end, end);
	}
	assert_true(header.end >= end);
	reader->position = header.end;
	reader->n_frames++;
	reader->n_open += reader->open ? 1 : 0;
}

/* Makes what can be made, at most some frames. */
static void
make_frames(TideCapture *capture, Reader *reader, bool partial, int limit)
{
	bool made = true;

	while (limit-- > 0 && made)
	{
		size_t before = tide_capture_size(capture);

		assert_true(tide_capture_frame(capture, partial, test_below(8) == 0,
									   test_below(6) == 0 ? 1 : 0, 0, 0, &frame, &made));
		if (made)
			read_frame(reader);
		assert_true(tide_capture_size(capture) <= before);
	}
}

/* ---- the writer ---- */

static void
announce(TideCapture *capture, int i)
{
	char name[32];

	snprintf(name, sizeof(name), "v%d", shapes[i].version);
	pg_relation(&message, FIRST_RELID + (uint32_t) i, "public", name, 1 + shapes[i].version % 3,
				23);
	take(capture);
	shapes[i].stale = false;
}

/* A relation as the server would use it: announced when that is due. */
static int
some_relation(TideCapture *capture)
{
	int i = (int) test_below(RELATIONS);

	if (test_below(12) == 0)
	{
		shapes[i].version++;
		shapes[i].stale = true;
	}
	else if (test_below(12) == 0)
		shapes[i].stale = true; /* again as it was */
	if (shapes[i].stale)
		announce(capture, i);
	return i;
}

static void
send_change(TideCapture *capture, bool dropped)
{
	int i = some_relation(capture);
	uint32_t relid = FIRST_RELID + (uint32_t) i;
	char type = "IUUDTH"[test_below(6)];
	int n_columns = 1 + shapes[i].version % 3;

	serial++;
	if (type == 'H')
		pg_heartbeat(&message, serial);
	else if (type == 'T')
		pg_truncate(&message, serial & 3, &relid, 1);
	else
		pg_change(&message, type, relid,
				  type == 'D'	? "KO"[test_below(2)]
				  : type == 'U' ? "\0KO"[test_below(3)]
								: 0,
				  serial, n_columns);
	take(capture);
	if (!dropped)
		note(type, type == 'H' ? -1 : i, serial);
}

static void
send_transaction(TideCapture *capture, Reader *reader)
{
	bool dropped = test_below(5) == 0;
	size_t n_changes = test_below(4) == 0 ? 0 : test_below(12);
	size_t mark = n_items;

	lsn += test_below(100);
	pg_begin(&message, lsn, 0, 1);
	take(capture);
	if (dropped)
	{
		pg_origin(&message);
		take(capture);
	}
	else if (n_changes > 0)
		note('B', -1, lsn);
	for (size_t i = 0; i < n_changes; i++)
	{
		send_change(capture, dropped);
		if (test_below(6) == 0)
			make_frames(capture, reader, test_below(3) == 0, 1 + (int) test_below(3));
	}
	pg_commit(&message, lsn, lsn + 10);
	take(capture);
	lsn += 10;
	if (n_items > mark)
		note('C', -1, lsn);
}

static void
one_stream(Reader *totals)
{
	TideCapture *capture = tide_capture_new("eu", 1, 1, 100);
	Reader reader = {.position = 100};
	size_t n = test_below(20);

	assert_non_null(capture);
	n_items = 0;
	lsn = 100;
	for (int i = 0; i < RELATIONS; i++)
		shapes[i].stale = true;
	for (size_t i = 0; i < n; i++)
	{
		send_transaction(capture, &reader);
		if (test_below(4) == 0)
		{
			lsn += test_below(50);
			tide_capture_advance(capture, lsn);
		}
		assert_int_equal(tide_capture_position(capture), lsn);
		if (test_below(3) == 0)
			make_frames(capture, &reader, test_below(2) == 0, (int) test_below(3));
	}
	while (tide_capture_size(capture) > 0)
		make_frames(capture, &reader, false, 10);
	assert_int_equal(reader.at, n_items);
	assert_false(reader.open);
	totals->n_frames += reader.n_frames;
	totals->n_open += reader.n_open;
	totals->n_borrowed += reader.n_borrowed;
	tide_capture_free(capture);
}

static void
random_streams(void **state)
{
	Reader totals = {0};

	(void) state;
	test_seed("random_streams");
	tide_buf_init(&message);
	tide_buf_init(&frame);
	for (int i = 0; i < 3000; i++)
		one_stream(&totals);
	/* All that makes it hard did happen. */
	assert_in_range(totals.n_frames, 10000, 1000000);
	assert_in_range(totals.n_open, 1000, 1000000);
	assert_in_range(totals.n_borrowed, 1000, 1000000);
	tide_buf_free(&message);
	tide_buf_free(&frame);
}

/* Any bytes: taken or refused, but never more than that. */
static void
nonsense(void **state)
{
	static const char types[] = "BCORYIUDTMx";

	(void) state;
	test_seed("nonsense");
	for (int round = 0; round < 20000; round++)
	{
		TideCapture *capture = tide_capture_new("eu", 1, 1, 0);
		const char *wrong = NULL;

		assert_non_null(capture);
		for (int i = 0; i < 10 && wrong == NULL; i++)
		{
			size_t len = 1 + test_below(40);
			char *data = malloc(len);

			assert_non_null(data);
			test_bytes(data, len);
			for (size_t j = 1; j < len; j++)
			{
				if (test_below(3) != 0)
					data[j] = (char) test_below(2);
			}
			data[0] = types[test_below(strlen(types))];
			wrong = tide_capture_message(capture, data, len);
			free(data);
		}
		tide_capture_free(capture);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_streams),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests_name("common_capture_random", tests, NULL, NULL);
}
