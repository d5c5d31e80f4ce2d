/*
 * fuzz_snapshot.c
 *		Fuzzes the snapshot parser and the questions about snapshots.
 *
 * Owns: text to snapshot and back, and containment against its definition.
 */
#include "fuzz.h"

#include "tide_snapshot.h"

static bool
parse(const uint8_t *data, size_t size, uint64_t **xip, TideSnapshot *snapshot)
{
	size_t max = tide_snapshot_max_xip((const char *) data, size);

	*xip = malloc(max * sizeof(uint64_t));
	CHECK(*xip != NULL);
	if (!tide_snapshot_parse((const char *) data, size, *xip, max, snapshot))
		return false;
	CHECK(snapshot->xmin >= 1 && snapshot->xmin <= snapshot->xmax && snapshot->n_xip <= max);
	for (size_t i = 0; i < snapshot->n_xip; i++)
	{
		CHECK(snapshot->xip[i] >= snapshot->xmin && snapshot->xip[i] < snapshot->xmax);
		CHECK(i == 0 || snapshot->xip[i] > snapshot->xip[i - 1]);
		CHECK(!tide_snapshot_visible(snapshot, snapshot->xip[i]));
	}
	return true;
}

/* Writing it again gives the text, but for leading zeros: so a second round is stable. */
static void
check_text(const TideSnapshot *snapshot)
{
	TideBuf text;
	uint64_t *xip;
	TideSnapshot again;

	tide_buf_init(&text);
	CHECK(tide_snapshot_format(&text, snapshot));
	CHECK(parse((const uint8_t *) text.data, text.len, &xip, &again));
	CHECK(tide_snapshot_compare(snapshot, &again) == 0);
	CHECK(tide_snapshot_contains(snapshot, &again) && tide_snapshot_contains(&again, snapshot));
	free(xip);
	tide_buf_free(&text);
}

/* Around every number in either snapshot, is what earlier shows shown by later? */
static bool
contains_model(const TideSnapshot *later, const TideSnapshot *earlier)
{
	const TideSnapshot *both[] = {later, earlier};

	for (int i = 0; i < 2; i++)
	{
		for (size_t j = 0; j < both[i]->n_xip + 2; j++)
		{
			uint64_t at = j < both[i]->n_xip	? both[i]->xip[j]
						  : j == both[i]->n_xip ? both[i]->xmin
												: both[i]->xmax;

			for (uint64_t xid = at - 1; xid != at + 2; xid++)
			{
				if (tide_snapshot_visible(earlier, xid) && !tide_snapshot_visible(later, xid))
					return false;
			}
		}
	}
	return true;
}

/* Two snapshots, separated by a '|'. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *bar = size > 0 ? memchr(data, '|', size) : NULL;
	size_t first = bar != NULL ? (size_t) (bar - data) : size;
	uint64_t *xip_a = NULL;
	uint64_t *xip_b = NULL;
	TideSnapshot a;
	TideSnapshot b;

	if (parse(data, first, &xip_a, &a))
	{
		check_text(&a);
		if (bar != NULL && parse(bar + 1, size - first - 1, &xip_b, &b))
		{
			CHECK(tide_snapshot_compare(&a, &b) == -tide_snapshot_compare(&b, &a));
			CHECK(tide_snapshot_contains(&a, &b) == contains_model(&a, &b));
			CHECK(tide_snapshot_contains(&b, &a) == contains_model(&b, &a));
		}
	}
	free(xip_a);
	free(xip_b);
	return 0;
}
