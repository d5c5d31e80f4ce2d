/*
 * common_merge.c
 *		Tests of the decision between the row that is here and the change that came.
 *
 * Owns: every case by name, and that versions of a row lead every region to the
 * same one, in whatever order and however often they come.
 */
#include "common_test.h"

#include "tide_merge.h"

#define HERE 20u
#define SENDER 10u

#define INSERT TIDE_CHANGE_INSERT
#define UPDATE TIDE_CHANGE_UPDATE
#define DELETE TIDE_CHANGE_DELETE

/* A side that has no row, no stamp, or a stamp of this clock and origin. */
#define ABSENT           \
	{                    \
		.present = false \
	}
#define UNSTAMPED       \
	{                   \
		.present = true \
	}
#define STAMP(c, o)  \
	{                \
		true, true,  \
		{            \
			(c), (o) \
		}            \
	}

typedef struct Side
{
	bool present;
	bool stamped;
	TideStamp stamp;
} Side;

typedef struct Case
{
	Side local;
	Side remote;
	TideChangeKind kind;
	TideMergeAction action;
} Case;

static const Case cases[] = {
	/* Nothing here: a version is stored, by whatever it comes. */
	{ABSENT, STAMP(5, SENDER), INSERT, TIDE_MERGE_INSERT},
	{ABSENT, STAMP(5, SENDER), UPDATE, TIDE_MERGE_INSERT},
	{ABSENT, UNSTAMPED, INSERT, TIDE_MERGE_INSERT},
	{ABSENT, UNSTAMPED, UPDATE, TIDE_MERGE_INSERT},
	{ABSENT, UNSTAMPED, DELETE, TIDE_MERGE_NOTHING},
	{ABSENT, STAMP(5, SENDER), DELETE, TIDE_MERGE_NOTHING},
	/* The later clock wins. */
	{STAMP(4, HERE), STAMP(5, SENDER), INSERT, TIDE_MERGE_UPDATE},
	{STAMP(4, HERE), STAMP(5, SENDER), UPDATE, TIDE_MERGE_UPDATE},
	{STAMP(6, HERE), STAMP(5, SENDER), INSERT, TIDE_MERGE_KEEP},
	{STAMP(6, HERE), STAMP(5, SENDER), UPDATE, TIDE_MERGE_KEEP},
	/* A tie goes to the larger origin, whichever side it is on. */
	{STAMP(5, SENDER), STAMP(5, HERE), UPDATE, TIDE_MERGE_UPDATE},
	{STAMP(5, HERE), STAMP(5, SENDER), UPDATE, TIDE_MERGE_KEEP},
	/* The same version again. */
	{STAMP(5, SENDER), STAMP(5, SENDER), UPDATE, TIDE_MERGE_KEEP},
	{STAMP(5, SENDER), STAMP(5, SENDER), INSERT, TIDE_MERGE_KEEP},
	/* Without a stamp: clock 0 of its region. */
	{UNSTAMPED, STAMP(1, SENDER), UPDATE, TIDE_MERGE_UPDATE},
	{STAMP(1, HERE), UNSTAMPED, UPDATE, TIDE_MERGE_KEEP},
	{UNSTAMPED, UNSTAMPED, INSERT, TIDE_MERGE_KEEP},
	{UNSTAMPED, STAMP(0, HERE), INSERT, TIDE_MERGE_KEEP},
	{UNSTAMPED, STAMP(0, HERE + 1), INSERT, TIDE_MERGE_UPDATE},
	{STAMP(0, SENDER), UNSTAMPED, INSERT, TIDE_MERGE_KEEP},
	{STAMP(0, SENDER - 1), UNSTAMPED, INSERT, TIDE_MERGE_UPDATE},
	/* Deletes. */
	{UNSTAMPED, UNSTAMPED, DELETE, TIDE_MERGE_DELETE},
	{STAMP(INT64_MAX, HERE), UNSTAMPED, DELETE, TIDE_MERGE_DELETE},
	{STAMP(5, HERE), STAMP(6, SENDER), DELETE, TIDE_MERGE_DELETE},
	{STAMP(5, SENDER), STAMP(5, SENDER), DELETE, TIDE_MERGE_DELETE},
	{STAMP(6, HERE), STAMP(5, SENDER), DELETE, TIDE_MERGE_KEEP},
	{UNSTAMPED, STAMP(1, SENDER), DELETE, TIDE_MERGE_DELETE},
};

static TideMergeAction
decide(TideChangeKind kind, Side local, Side remote, uint32_t here, uint32_t sender)
{
	const TideMergeInput input = {.kind = kind,
								  .local_present = local.present,
								  .local_stamped = local.stamped,
								  .local = local.stamp,
								  .remote_stamped = remote.stamped,
								  .remote = remote.stamp,
								  .here = here,
								  .sender = sender};

	return tide_merge_decide(&input);
}

static void
by_name(void **state)
{
	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		const Case *c = &cases[i];

		if (decide(c->kind, c->local, c->remote, HERE, SENDER) != c->action)
			fail_msg("case %zu", i);
	}
}

/* ---- regions that send each other their versions ---- */

#define REGIONS 3
#define VERSIONS 6

typedef struct Version
{
	uint32_t origin;
	bool stamped;
	TideStamp stamp;
	int value;
} Version;

typedef struct Row
{
	bool present;
	bool stamped;
	TideStamp stamp;
	int value;
} Row;

/* What apply does: a version that came without a stamp is stored as its sender's. */
static void
deliver(Row *row, uint32_t here, const Version *version)
{
	TideChangeKind kind = test_below(2) == 0 ? INSERT : UPDATE;
	Side local = {row->present, row->stamped, row->stamp};
	Side remote = {true, version->stamped, version->stamp};
	TideMergeAction action = decide(kind, local, remote, here, version->origin);

	assert_int_equal(action == TIDE_MERGE_INSERT, !row->present);
	if (action != TIDE_MERGE_INSERT && action != TIDE_MERGE_UPDATE)
	{
		assert_int_equal(action, TIDE_MERGE_KEEP);
		return;
	}
	*row = (Row){.present = true, .stamped = true, .stamp = version->stamp};
	if (!version->stamped)
		row->stamp = (TideStamp){.clock = 0, .origin = version->origin};
	row->value = version->value;
	/* At once again: it is here. */
	local = (Side){row->present, row->stamped, row->stamp};
	assert_int_equal(decide(kind, local, remote, here, version->origin), TIDE_MERGE_KEEP);
}

/* Distinct stamps, as a clock gives them; at most one version of a region has none. */
static void
make_versions(Version *versions)
{
	for (int i = 0; i < VERSIONS; i++)
	{
		uint32_t origin = (uint32_t) test_below(REGIONS) + 1;
		Version *v = &versions[i];
		bool again;

		do
		{
			again = false;
			*v = (Version){.origin = origin, .value = i, .stamped = test_below(5) != 0};
			v->stamp.origin = origin;
			v->stamp.clock = v->stamped ? (int64_t) test_below(8) + 1 : 0;
			for (int j = 0; j < i; j++)
				again = again || tide_stamp_compare(versions[j].stamp, v->stamp) == 0;
			origin = origin % REGIONS + 1;
		}
		while (again);
	}
}

static void
any_order(void **state)
{
	(void) state;
	test_seed("any_order");
	for (int round = 0; round < 20000; round++)
	{
		Version versions[VERSIONS];
		int value = -1;

		make_versions(versions);
		for (uint32_t here = 1; here <= REGIONS; here++)
		{
			Row row = {0};
			int left = VERSIONS;
			bool seen[VERSIONS] = {false};

			/* The one without a stamp may have been here before everything else. */
			for (int i = 0; i < VERSIONS; i++)
			{
				if (!versions[i].stamped && versions[i].origin == here)
				{
					row = (Row){.present = true, .value = versions[i].value};
					seen[i] = true;
					left--;
				}
			}
			while (left > 0)
			{
				size_t i = test_below(VERSIONS);

				left -= seen[i] ? 0 : 1;
				seen[i] = true;
				deliver(&row, here, &versions[i]);
			}
			if (here == 1)
				value = row.value;
			assert_int_equal(row.value, value);
		}
	}
}

/* Of two versions exactly one wins, and the same on both sides. */
static void
both_sides_agree(void **state)
{
	(void) state;
	test_seed("both_sides_agree");
	for (int i = 0; i < 200000; i++)
	{
		uint32_t a_id = (uint32_t) test_below(4) + 1;
		uint32_t b_id = a_id + 1 + (uint32_t) test_below(3);
		Side a = {true, test_below(4) != 0, {(int64_t) test_below(3), a_id}};
		Side b = {true, test_below(4) != 0, {(int64_t) test_below(3), b_id}};
		TideMergeAction at_a = decide(UPDATE, a, b, a_id, b_id);
		TideMergeAction at_b = decide(UPDATE, b, a, b_id, a_id);

		assert_true((at_a == TIDE_MERGE_KEEP && at_b == TIDE_MERGE_UPDATE) ||
					(at_a == TIDE_MERGE_UPDATE && at_b == TIDE_MERGE_KEEP));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_name),
		cmocka_unit_test(any_order),
		cmocka_unit_test(both_sides_agree),
	};

	return cmocka_run_group_tests_name("common_merge", tests, NULL, NULL);
}
