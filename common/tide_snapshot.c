/*
 * tide_snapshot.c
 *		PostgreSQL snapshots in their text form, and questions about them.
 *
 * Owns: reading, writing, visibility, order.  Does not own: taking snapshots.
 */
#include "tide_snapshot.h"

#include <inttypes.h>
#include <string.h>

#include "tide_text.h"

size_t
tide_snapshot_max_xip(const char *text, size_t len)
{
	size_t n = 1;

	for (size_t i = 0; i < len; i++)
		n += text[i] == ',';
	return n;
}

/* Cuts the number before stop (or the end) off *text; true if it was one. */
static bool
take_number(const char **text, const char *end, char stop, uint64_t *value)
{
	const char *at = memchr(*text, stop, (size_t) (end - *text));
	const char *number = *text;

	if (at == NULL)
		at = end;
	*text = at < end ? at + 1 : end;
	return tide_parse_u64(number, (size_t) (at - number), value);
}

bool
tide_snapshot_parse(const char *text, size_t len, uint64_t *xip, size_t max_xip, TideSnapshot *out)
{
	const char *p = text;
	const char *end = text + len;
	uint64_t xmin;
	uint64_t xmax;
	uint64_t previous;
	size_t n = 0;

	if (!take_number(&p, end, ':', &xmin) || !take_number(&p, end, ':', &xmax))
		return false;
	/* The second colon must be there, even with nothing behind it. */
	if (p[-1] != ':' || xmin == 0 || xmin > xmax)
		return false;
	/* A comma at the very end would look like the end of the list below. */
	if (p < end && end[-1] == ',')
		return false;
	for (previous = xmin - 1; p < end; previous = xip[n++])
	{
		if (n == max_xip || !take_number(&p, end, ',', &xip[n]))
			return false;
		if (xip[n] <= previous || xip[n] >= xmax)
			return false;
	}
	*out = (TideSnapshot){.xmin = xmin, .xmax = xmax, .xip = xip, .n_xip = n};
	return true;
}

bool
tide_snapshot_format(TideBuf *out, const TideSnapshot *snapshot)
{
	tide_buf_printf(out, "%" PRIu64 ":%" PRIu64 ":", snapshot->xmin, snapshot->xmax);
	for (size_t i = 0; i < snapshot->n_xip; i++)
		tide_buf_printf(out, i > 0 ? ",%" PRIu64 : "%" PRIu64, snapshot->xip[i]);
	return !out->oom;
}

/* Index of the first entry that is >= xid; n_xip if there is none. */
static size_t
lower_bound(const TideSnapshot *snapshot, uint64_t xid)
{
	size_t low = 0;
	size_t high = snapshot->n_xip;

	while (low < high)
	{
		size_t middle = low + (high - low) / 2;

		if (snapshot->xip[middle] < xid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool
in_progress(const TideSnapshot *snapshot, uint64_t xid)
{
	size_t i = lower_bound(snapshot, xid);

	return i < snapshot->n_xip && snapshot->xip[i] == xid;
}

bool
tide_snapshot_visible(const TideSnapshot *snapshot, uint64_t xid)
{
	return xid < snapshot->xmax && !in_progress(snapshot, xid);
}

int
tide_snapshot_compare(const TideSnapshot *a, const TideSnapshot *b)
{
	if (a->xmax != b->xmax)
		return a->xmax < b->xmax ? -1 : 1;
	if (a->n_xip != b->n_xip)
		return a->n_xip > b->n_xip ? -1 : 1;
	return 0;
}

bool
tide_snapshot_contains(const TideSnapshot *later, const TideSnapshot *earlier)
{
	/* All that later does not show must be hidden in earlier too: first what runs in later ... */
	for (size_t i = 0; i < later->n_xip; i++)
	{
		if (tide_snapshot_visible(earlier, later->xip[i]))
			return false;
	}

	/* ... then what begins at later's end: between both ends, earlier must have all running. */
	if (earlier->xmax > later->xmax)
		return earlier->n_xip - lower_bound(earlier, later->xmax) == earlier->xmax - later->xmax;
	return true;
}
