/*
 * common_snapshot.c
 *		Tests of snapshots, with a simulated server as the model.
 *
 * Owns: cases, and the property everything else rests on: windows between
 * snapshots hand out every committed transaction exactly once.
 */
#include "common_test.h"

#include "tide_snapshot.h"

#define MAX_XIP 64

static void
parses(void **state)
{
	static const char *const good[] = {
		"1:1:",		 "5:9:", "5:9:5",
		"5:9:5,6,8", "9:9:", "100:18446744073709551615:100,18446744073709551614",
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(good); i++)
	{
		uint64_t xip[MAX_XIP];
		TideSnapshot snapshot;
		TideBuf text;

		assert_true(tide_snapshot_max_xip(good[i], strlen(good[i])) <= MAX_XIP);
		assert_true(tide_snapshot_parse(good[i], strlen(good[i]), xip, MAX_XIP, &snapshot));
		tide_buf_init(&text);
		assert_true(tide_snapshot_format(&text, &snapshot));
		assert_string_equal(tide_buf_cstr(&text), good[i]);
		tide_buf_free(&text);
	}
}

static void
refuses(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"::",
		"5",
		"5:",
		"5:9",
		":9:",
		"5::",
		"0:9:",
		"9:5:",
		"5:9:,",
		"5:9:5,",
		"5:9:,5",
		"5:9:5,,6",
		"5:9:6,5",
		"5:9:5,5",
		"5:9:4",
		"5:9:9",
		"5:9:10",
		"5:9:5 ",
		" 5:9:5",
		"5:9:a",
		"5:9:-5",
		"5:9:+5",
		"5:9:5:",
		"5:9:5:6",
		"5,9:5",
		"5:18446744073709551616:",
		"18446744073709551616:5:",
		"5:9:18446744073709551621",
		"5:9:5,6,7,8,",
		"0x5:9:",
		"5:9:5\n",
	};
	uint64_t xip[MAX_XIP];
	TideSnapshot snapshot = {.xmin = 77};

	(void) state;
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		if (tide_snapshot_parse(bad[i], strlen(bad[i]), xip, MAX_XIP, &snapshot))
			fail_msg("took \"%s\"", bad[i]);
		assert_int_equal(snapshot.xmin, 77);
	}
	assert_false(tide_snapshot_parse("5:9:5\0", 6, xip, MAX_XIP, &snapshot));
	assert_false(tide_snapshot_parse("5:9:5,6,7", 9, xip, 2, &snapshot));
	assert_true(tide_snapshot_parse("5:9:5,6,7", 9, xip, 3, &snapshot));
	assert_true(tide_snapshot_parse("5:9:", 4, NULL, 0, &snapshot));
}

static TideSnapshot
make(const char *text, uint64_t *xip)
{
	TideSnapshot snapshot;

	assert_true(tide_snapshot_parse(text, strlen(text), xip, MAX_XIP, &snapshot));
	return snapshot;
}

static void
orders(void **state)
{
	static const struct
	{
		const char *later;
		const char *earlier;
		bool contains;
		int compare; /* of later and earlier */
	} cases[] = {
		{"5:9:5", "5:9:5", true, 0},		   {"5:9:5", "5:9:5,6", true, 1},
		{"5:9:5,6", "5:9:5", false, -1},	   {"9:9:", "5:9:5,6", true, 1},
		{"5:12:5,10", "5:9:5", true, 1},	   {"5:12:5,8,10", "5:9:5", false, 1},
		{"5:9:5", "5:12:5,9,10,11", true, -1}, /* shows the same */
		{"5:9:5", "5:12:5,9,10", false, -1},   {"5:9:5", "20:20:", false, -1},
		{"20:20:", "5:9:5", true, 1},		   {"1:1:", "1:3:1,2", true, -1},
		{"1:1:", "2:2:", false, -1},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		uint64_t xip_a[MAX_XIP];
		uint64_t xip_b[MAX_XIP];
		TideSnapshot later = make(cases[i].later, xip_a);
		TideSnapshot earlier = make(cases[i].earlier, xip_b);

		assert_int_equal(tide_snapshot_contains(&later, &earlier), cases[i].contains);
		assert_int_equal(tide_snapshot_compare(&later, &earlier), cases[i].compare);
		assert_int_equal(tide_snapshot_compare(&earlier, &later), -cases[i].compare);
	}
}

/*
 * The simulated server: transactions take ids in order, end in any order, and
 * a snapshot is taken the way the server does it: xmax is one past the last
 * that ended, xip what runs below it.
 */
#define MAX_XIDS 400

typedef enum XactState
{
	NOT_BEGUN,
	RUNNING,
	COMMITTED,
	ABORTED
} XactState;

typedef struct Server
{
	XactState xact[MAX_XIDS];
	uint64_t next;
	uint64_t latest_ended;
} Server;

static void
server_step(Server *server)
{
	uint64_t running[MAX_XIDS];
	size_t n = 0;

	for (uint64_t xid = 1; xid < server->next; xid++)
	{
		if (server->xact[xid] == RUNNING)
			running[n++] = xid;
	}
	if (server->next < MAX_XIDS && (n == 0 || (n < MAX_XIP && test_below(2) == 0)))
	{
		server->xact[server->next++] = RUNNING;
		return;
	}
	if (n > 0)
	{
		uint64_t xid = running[test_below(n)];

		server->xact[xid] = test_below(4) == 0 ? ABORTED : COMMITTED;
		if (xid > server->latest_ended)
			server->latest_ended = xid;
	}
}

static TideSnapshot
server_snapshot(const Server *server, uint64_t *xip)
{
	TideSnapshot snapshot = {.xmax = server->latest_ended + 1, .xip = xip};

	for (uint64_t xid = 1; xid < snapshot.xmax; xid++)
	{
		if (server->xact[xid] == RUNNING)
			xip[snapshot.n_xip++] = xid;
	}
	snapshot.xmin = snapshot.n_xip > 0 ? xip[0] : snapshot.xmax;
	return snapshot;
}

/* Through its text and back, as between relay and database. */
static void
through_text(TideSnapshot *snapshot)
{
	TideBuf text;

	tide_buf_init(&text);
	assert_true(tide_snapshot_format(&text, snapshot));
	assert_true(tide_snapshot_parse(text.data, text.len, snapshot->xip, MAX_XIP, snapshot));
	tide_buf_free(&text);
}

static void
check_window(const Server *server, const TideSnapshot *from, const TideSnapshot *to, int *delivered)
{
	assert_true(tide_snapshot_contains(to, from));
	assert_true(tide_snapshot_compare(from, to) <= 0);
	for (uint64_t xid = 1; xid < MAX_XIDS; xid++)
	{
		/* A reader sees rows of committed transactions that its snapshot shows. */
		if (server->xact[xid] == COMMITTED && tide_snapshot_visible(to, xid) &&
			!tide_snapshot_visible(from, xid))
			delivered[xid]++;
		assert_int_equal(tide_snapshot_visible(to, xid),
						 server->xact[xid] == COMMITTED || server->xact[xid] == ABORTED);
	}
}

static void
windows_partition_history(void **state)
{
	(void) state;
	test_seed("windows_partition_history");
	for (int run = 0; run < 200; run++)
	{
		Server server = {.next = 1};
		int delivered[MAX_XIDS] = {0};
		uint64_t xip[2][MAX_XIDS];
		TideSnapshot last = server_snapshot(&server, xip[0]);
		int turn = 1;
		size_t steps = 100 + test_below(900);

		for (size_t i = 0; i < steps; i++)
		{
			server_step(&server);
			if (test_below(10) == 0 || i == steps - 1)
			{
				TideSnapshot now = server_snapshot(&server, xip[turn]);

				through_text(&now);
				check_window(&server, &last, &now, delivered);
				last = now;
				turn = !turn;
			}
		}
		for (uint64_t xid = 1; xid < MAX_XIDS; xid++)
			assert_int_equal(delivered[xid], server.xact[xid] == COMMITTED);
	}
}

/* contains() against its definition, for snapshots that need not come from one history. */
static void
contains_by_definition(void **state)
{
	(void) state;
	test_seed("contains_by_definition");
	for (int run = 0; run < 20000; run++)
	{
		uint64_t xip[2][MAX_XIP];
		TideSnapshot s[2];
		bool contains = true;

		for (int i = 0; i < 2; i++)
		{
			uint64_t xmin = 1 + test_below(6);

			s[i] = (TideSnapshot){.xmin = xmin, .xmax = xmin + test_below(6), .xip = xip[i]};
			for (uint64_t xid = s[i].xmin; xid < s[i].xmax; xid++)
			{
				if (test_below(2) == 0)
					xip[i][s[i].n_xip++] = xid;
			}
		}
		for (uint64_t xid = 0; xid < 20; xid++)
		{
			if (tide_snapshot_visible(&s[1], xid) && !tide_snapshot_visible(&s[0], xid))
				contains = false;
		}
		assert_int_equal(tide_snapshot_contains(&s[0], &s[1]), contains);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
		cmocka_unit_test(orders),
		cmocka_unit_test(windows_partition_history),
		cmocka_unit_test(contains_by_definition),
	};

	return cmocka_run_group_tests_name("common_snapshot", tests, NULL, NULL);
}
