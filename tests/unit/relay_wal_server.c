/*
 * relay_wal_server.c
 *		Tests of relay/src/pg_copy.c, wal_stream.c and wal_frames.c against the server
 *		that TIDE_TEST_CONNINFO names (wal_level logical, a superuser); skipped
 *		without it.  tests/t/420_link.pl starts a server and runs this.
 */
#include "relay_test.h"

#include "mem.h"
#include "tide_frame.h"
#include "wal_frames.h"

#define SLOT "relay_wal_server"

static const char *conninfo;
static TidePg *pg;

static void
run(const char *sql)
{
	TideError err;

	if (!tide_pg_command(pg, sql, -1, NULL, &err))
		fail_msg("%s: %s", sql, err.message);
}

/* The query's one value; the caller frees it. */
static char *
value_of(const char *sql)
{
	PGresult *res;
	TideError err;
	char *value;

	if (!tide_pg_exec(pg, sql, 0, NULL, &res, &err))
		fail_msg("%s: %s", sql, err.message);
	value = tide_strdup(tide_pg_value(res, 0, 0) != NULL ? tide_pg_value(res, 0, 0) : "NULL");
	PQclear(res);
	return value;
}

static int
set_up(void **state)
{
	TideError err;

	(void) state;
	conninfo = getenv("TIDE_TEST_CONNINFO");
	if (conninfo == NULL)
		return 0;
	if (!tide_pg_open(conninfo, "test", NULL, &pg, &err))
		fail_msg("%s", err.message);
	run("SET search_path = public");
	run("DROP PUBLICATION IF EXISTS tide_global");
	run("DROP TABLE IF EXISTS wal_test");
	run("CREATE TABLE wal_test (id int PRIMARY KEY, filler text)");
	run("CREATE PUBLICATION tide_global FOR TABLE wal_test");
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	if (pg != NULL)
	{
		run("DROP PUBLICATION tide_global");
		run("DROP TABLE wal_test");
	}
	tide_pg_close(pg);
	return 0;
}

#define NEED_SERVER()         \
	do                        \
	{                         \
		(void) state;         \
		if (conninfo == NULL) \
			skip();           \
	}                         \
	while (0)

/* ---- copying out ---- */

/* Reads to the end; false with err. */
static bool
read_copy(const char *sql, int *rows, size_t *bytes, TideError *err)
{
	TideCopyStep step = TIDE_COPY_WAIT;

	*rows = 0;
	*bytes = 0;
	if (!tide_pg_copy_start(pg, sql, err))
		return false;
	while (step != TIDE_COPY_END)
	{
		const char *data;
		size_t len;

		if (!tide_pg_copy_next(pg, &step, &data, &len, err))
			return false;
		if (step == TIDE_COPY_WAIT && !tide_pg_copy_wait(pg, err))
			return false;
		if (step == TIDE_COPY_DATA)
		{
			(*rows)++;
			*bytes += len;
		}
	}
	return true;
}

static void
copies(void **state)
{
	TideError err;
	size_t bytes;
	int rows;

	NEED_SERVER();
	assert_true(read_copy("COPY (SELECT repeat('x', 999) FROM generate_series(1, 20000)) TO STDOUT",
						  &rows, &bytes, &err));
	assert_int_equal(rows, 20000);
	assert_int_equal(bytes, 20000000);
	assert_true(read_copy("COPY (SELECT 1 WHERE false) TO STDOUT", &rows, &bytes, &err));
	assert_int_equal(rows, 0);

	/* What fails before, and in the middle of, data; the connection goes on. */
	assert_false(read_copy("COPY nothing_of_that_name TO STDOUT", &rows, &bytes, &err));
	assert_string_equal(err.code, "42P01");
	assert_false(read_copy("COPY (SELECT 1 / (500 - g) FROM generate_series(1, 1000) g) TO STDOUT",
						   &rows, &bytes, &err));
	assert_string_equal(err.code, "22012");
	assert_true(rows <= 499);
	assert_true(read_copy("COPY (SELECT 7) TO STDOUT", &rows, &bytes, &err));
	assert_int_equal(rows, 1);
	run("SELECT 1");
}

static void
lsns(void **state)
{
	char text[TIDE_LSN_TEXT];

	(void) state;
	tide_lsn_format(UINT64_MAX, text);
	assert_string_equal(text, "FFFFFFFF/FFFFFFFF");
	assert_true(tide_lsn_parse(text) == UINT64_MAX);
	assert_true(tide_lsn_parse("16/B374D848") == UINT64_C(0x16B374D848));
	tide_lsn_format(UINT64_C(0x16B374D848), text);
	assert_string_equal(text, "16/B374D848");
	assert_true(tide_lsn_parse(NULL) == 0 && tide_lsn_parse("") == 0 && tide_lsn_parse("12") == 0 &&
				tide_lsn_parse("1/") == 0 && tide_lsn_parse("/1") == 0 &&
				tide_lsn_parse("1/2x") == 0 && tide_lsn_parse("1/123456789") == 0);
}

/* ---- slots ---- */

static void
slots(void **state)
{
	TideWal *wal;
	TideWalIdentity identity;
	TideWalSlot made;
	TideWalSlot again;
	TideError err;
	char *text;

	NEED_SERVER();
	assert_true(tide_wal_open(conninfo, "test", NULL, &wal, &err));
	assert_true(tide_wal_identify(wal, &identity, &err));
	text = value_of("SELECT system_identifier FROM pg_control_system()");
	assert_true(identity.system_id == strtoull(text, NULL, 10));
	assert_int_equal(identity.timeline, 1);
	free(text);

	assert_true(tide_wal_create_slot(wal, "relay \"wal\" '1'", true, -1, &made, &err) == false);
	assert_string_equal(err.code, "42602"); /* quoted well: the server itself refuses the name */
	assert_true(tide_wal_create_slot(wal, SLOT "_temporary", true, 5000, &made, &err));
	assert_true(made.position >= identity.wal_end && made.snapshot[0] != '\0');
	assert_false(tide_wal_create_slot(wal, SLOT "_temporary", true, -1, &again, &err));
	assert_string_equal(err.code, "42710");
	assert_true(tide_wal_drop_slot(wal, SLOT "_none", &err));

	/* An open transaction is waited for, with a limit; nothing is left then. */
	run("BEGIN; INSERT INTO wal_test VALUES (-1)");
	assert_false(tide_wal_create_slot(wal, SLOT "_waits", false, 300, &made, &err));
	assert_int_equal(err.class, TIDE_ERR_TIMEOUT);
	tide_wal_close(wal);
	run("ROLLBACK");
	text = value_of("SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE '" SLOT "%'");
	assert_string_equal(text, "0");
	free(text);
}

static void
refusals(void **state)
{
	TideWal *wal;
	TideError err;
	char *other;

	NEED_SERVER();
	run("DROP ROLE IF EXISTS wal_test_role");
	run("CREATE ROLE wal_test_role LOGIN");
	other = tide_printf("%s user=wal_test_role", conninfo);
	assert_false(tide_wal_open(other, "test", NULL, &wal, &err));
	assert_string_equal(err.code, "42501");
	assert_int_equal(err.class, TIDE_ERR_PERMISSION);
	assert_contains(err.hint, "REPLICATION");
	free(other);
	run("DROP ROLE wal_test_role");
}

/* ---- frames ---- */

static TideWalFrames *
open_frames(uint64_t start, size_t max_frame, int level)
{
	TideWalFramesOptions opts = {
		.conninfo = conninfo,
		.what = "test",
		.slot = SLOT,
		.publications = "tide_global",
		.region = "us-east",
		.system_id = 7,
		.timeline = 1,
		.server_version = 150000,
		.start = start,
		.max_frame = max_frame,
		.level = level,
	};
	TideWalFrames *frames;
	TideError err;

	for (int n = 0; !tide_wal_frames_open(&opts, &frames, &err); n++)
	{
		/* The stream before this one may still hold the slot. */
		if (n == 100 || strcmp(err.code, "55006") != 0)
			fail_msg("%s", err.message);
		tide_stop_sleep(NULL, 50);
	}
	return frames;
}

/* The next frame within the limit, or none; chained to what was before. */
static bool
next_frame(TideWalFrames *frames, TideFrame *frame, int limit_ms)
{
	long long end = tide_monotonic_ms() + limit_ms;
	struct pollfd fds[1];
	TideError err;
	bool have = false;

	do
	{
		if (!tide_wal_frames_turn(frames, &err) ||
			!tide_wal_frames_next(frames, frame, &have, &err))
			fail_msg("%s", err.message);
		if (have)
			return true;
		poll(fds, (nfds_t) tide_wal_frames_poll(frames, fds), 20);
	}
	while (tide_monotonic_ms() < end);
	return false;
}

/* Nobody takes frames meanwhile. */
static void
turn_for(TideWalFrames *frames, int ms)
{
	long long end = tide_monotonic_ms() + ms;
	struct pollfd fds[1];
	TideError err;

	while (tide_monotonic_ms() < end)
	{
		if (!tide_wal_frames_turn(frames, &err))
			fail_msg("%s", err.message);
		poll(fds, (nfds_t) tide_wal_frames_poll(frames, fds), 100);
	}
}

static uint64_t
make_slot(void)
{
	TideWal *wal;
	TideWalSlot made = {0};
	TideError err;

	assert_true(tide_wal_open(conninfo, "test", NULL, &wal, &err));
	if (!tide_wal_drop_slot(wal, SLOT, &err) ||
		!tide_wal_create_slot(wal, SLOT, false, -1, &made, &err))
		fail_msg("%s", err.message);
	tide_wal_close(wal);
	return made.position;
}

static void
drop_slot(void)
{
	TideWal *wal;
	TideError err;

	assert_true(tide_wal_open(conninfo, "test", NULL, &wal, &err));
	for (int n = 0; !tide_wal_drop_slot(wal, SLOT, &err); n++)
	{
		assert_true(n < 100);
		tide_stop_sleep(NULL, 50);
	}
	tide_wal_close(wal);
}

typedef struct Sum
{
	int frames;
	int open;
	uint32_t transactions;
	uint32_t changes;
	size_t largest;
	uint64_t end;
} Sum;

/* Takes frames until so many changes have come. */
static Sum
take_changes(TideWalFrames *frames, uint64_t start, uint32_t changes)
{
	Sum sum = {.end = start};
	bool open = false;

	while (sum.changes < changes || open)
	{
		TideFrame frame = {0};
		TideFrameHeader header;
		const uint8_t *body;

		if (!next_frame(frames, &frame, 10000))
			fail_msg("%u of %u changes came", sum.changes, changes);
		assert_null(tide_frame_open(frame.data, frame.len, &header, &body));
		assert_true(header.start == sum.end && header.end >= header.start);
		assert_true(frame.start == header.start && frame.end == header.end);
		assert_true(open == ((frame.flags & TIDE_FRAME_CONTINUES) != 0));
		assert_true(header.wal_end >= header.end);
		open = (frame.flags & TIDE_FRAME_OPEN) != 0;
		sum.frames++;
		sum.open += open;
		sum.transactions += header.n_transactions;
		sum.changes += header.n_changes;
		sum.largest = frame.raw_bytes > sum.largest ? frame.raw_bytes : sum.largest;
		sum.end = header.end;
	}
	return sum;
}

static void
streams(void **state)
{
	uint64_t start;
	TideWalFrames *frames;
	TideFrame frame;
	Sum first;
	Sum sum;
	char *text;

	NEED_SERVER();
	start = make_slot();
	frames = open_frames(start, 65536, 0);
	assert_false(next_frame(frames, &frame, 200));

	/* One small transaction at once. */
	run("INSERT INTO wal_test VALUES (1, 'x')");
	sum = take_changes(frames, start, 1);
	assert_true(sum.frames == 1 && sum.transactions == 1);

	/* Many, while nobody takes frames: what is read ahead is bounded, frames are well filled. */
	run("DO $$ BEGIN FOR n IN 2 .. 2001 LOOP INSERT INTO public.wal_test VALUES (n, repeat('x', "
		"500)); COMMIT; END LOOP; END $$");
	turn_for(frames, 500);
	first = take_changes(frames, sum.end, 1);
	assert_true(first.transactions > 50 && first.open == 0);
	assert_in_range(first.largest, 60000, 80000);
	sum = take_changes(frames, first.end, 2000 - first.changes);
	assert_true(first.transactions + sum.transactions == 2000 && sum.open == 0);

	/* One larger than a frame: in parts. */
	run("UPDATE wal_test SET filler = repeat('y', 600)");
	sum = take_changes(frames, sum.end, 2001);
	assert_int_equal(sum.transactions, 1);
	assert_in_range(sum.open, 10, 60);

	/* What is confirmed, and only that, is confirmed to the slot; also at the end. */
	tide_wal_frames_confirm(frames, sum.end);
	tide_wal_frames_close(frames);
	text = value_of("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '" SLOT
					"'");
	for (int n = 0; tide_lsn_parse(text) != sum.end; n++)
	{
		assert_true(n < 100 && tide_lsn_parse(text) < sum.end);
		tide_stop_sleep(NULL, 50);
		free(text);
		text = value_of("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = "
						"'" SLOT "'");
	}
	free(text);

	/* Goes on where it was told to; compressed this time. */
	frames = open_frames(sum.end, 0, 3);
	run("DELETE FROM wal_test");
	sum = take_changes(frames, sum.end, 2001);
	assert_true(sum.transactions == 1);
	tide_wal_frames_close(frames);
	drop_slot();
}

/* A server of little patience is answered while nobody takes frames. */
static void
answers_while_nobody_takes(void **state)
{
	uint64_t start;
	TideWalFrames *frames;
	Sum sum;

	NEED_SERVER();
	run("ALTER SYSTEM SET wal_sender_timeout = '1s'");
	run("SELECT pg_reload_conf()");
	start = make_slot();
	frames = open_frames(start, 65536, 0);
	run("INSERT INTO wal_test SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g");
	turn_for(frames, 3000);
	sum = take_changes(frames, start, 20000);
	assert_int_equal(sum.transactions, 1);
	tide_wal_frames_close(frames);
	drop_slot();
	run("ALTER SYSTEM RESET wal_sender_timeout");
	run("SELECT pg_reload_conf()");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lsns),	   cmocka_unit_test(copies),
		cmocka_unit_test(slots),   cmocka_unit_test(refusals),
		cmocka_unit_test(streams), cmocka_unit_test(answers_while_nobody_takes),
	};

	return cmocka_run_group_tests_name("relay_wal_server", tests, set_up, tear_down);
}
