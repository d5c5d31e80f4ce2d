/*
 * doctor_orphan.c
 *		What "pg_tide doctor" finds of links that are no more: WAL that is kept for nobody.
 *
 * Owns: slots here and in other regions that no link reads, and regions that a publisher waits for
 * in vain.  Does not own: asking the regions (doctor_peer.c), slots that are in use (doctor_rows.c).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "doctor_rows.h"
#include "pg_json.h"

#define SLOT_PREFIX "tide_link_"
#define PUBLISHER_PREFIX "tide_rows_"

/* A region that can't be asked may be away for a while. */
#define SILENT_S 900

/* Whose slot it is says the number at the end of its name; 0: none. */
static long long
slot_region_id(const char *slot)
{
	const char *mark = strrchr(slot, '_');

	return mark != NULL && strlen(mark + 1) == 8 ? strtoll(mark + 1, NULL, 16) : 0;
}

static void
orphan(TideDoctor *d, const char *id, const char *region, const char *where, const json_t *slot,
	   const char *why)
{
	const char *name = tide_json_text(slot, "name");
	bool active = tide_json_bool(slot, "active");

	tide_doctor_report(
		d, TIDE_DOCTOR_WARN, id, region,
		tide_doctor_printf(
			d, "slot \"%s\" keeps %s of WAL for nobody: %s", name,
			tide_doctor_bytes(d, json_number_value(json_object_get(slot, "retained"))), why),
		tide_doctor_printf(d, "%s%s: SELECT pg_drop_replication_slot('%s')", where,
						   active ? ", after ending who reads it" : "", name));
}

static bool
publisher_has(const json_t *rows, const char *slot)
{
	return tide_doctor_member(json_object_get(rows, "publishers"), "slot", slot) != NULL;
}

static const TidePeer *
find_peer(const TideDoctor *d, long long region_id)
{
	const json_t *regions = json_object_get(d->rows, "regions");
	const TidePeer *peer = d->peers;

	for (size_t i = 0; i < json_array_size(regions) && peer != NULL; i++, peer = peer->next)
	{
		if (tide_json_int(json_array_get(regions, i), "region_id") == region_id)
			return peer;
	}
	return NULL;
}

static const TidePeer *
peer_named(const TideDoctor *d, const char *region)
{
	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		if (tide_doctor_same(peer->region, region))
			return peer;
	}
	return NULL;
}

/* A slot of this database that is for another region. */
static void
check_slot_here(TideDoctor *d, const char *id, const json_t *slot)
{
	const char *name = tide_json_text(slot, "name");
	const TidePeer *peer = find_peer(d, slot_region_id(name));
	const json_t *link;

	if (peer == NULL)
	{
		orphan(d, id, NULL, "here", slot, "no region known here is called so");
		return;
	}
	if (peer->rows == NULL)
	{
		if (!tide_json_bool(slot, "active"))
			tide_doctor_report(
				d, TIDE_DOCTOR_WARN, id, peer->region,
				tide_doctor_printf(
					d, "its slot \"%s\" is not read, and keeps %s of WAL", name,
					tide_doctor_bytes(d, json_number_value(json_object_get(slot, "retained")))),
				tide_doctor_printf(d,
								   "if that region is gone for good: SELECT "
								   "pg_drop_replication_slot('%s')",
								   name));
		return;
	}
	link = tide_doctor_member(json_object_get(peer->rows, "lanes"), "slot", name);
	if (link == NULL ||
		!tide_doctor_same(tide_json_text(link, "region"), tide_json_text(d->rows, "region")))
		orphan(d, id, peer->region, "here", slot,
			   tide_doctor_printf(d, "region \"%s\" has no such link", peer->region));
	else
		tide_doctor_slot(d, id, NULL, d->rows, slot);
}

static void
check_slots_here(TideDoctor *d, const char *id)
{
	const json_t *slots = json_object_get(d->rows, "slots");

	for (size_t i = 0; i < json_array_size(slots); i++)
	{
		const json_t *slot = json_array_get(slots, i);
		const char *name = tide_json_text(slot, "name");

		if (strncmp(name, PUBLISHER_PREFIX, strlen(PUBLISHER_PREFIX)) != 0)
			check_slot_here(d, id, slot);
		else if (!publisher_has(d->rows, name))
			orphan(d, id, NULL, "here", slot, "nothing is published on a broker");
		else
			tide_doctor_slot(d, id, NULL, d->rows, slot);
	}
}

/* Slots in other regions that carry this region's number, and that no link here uses. */
static void
check_slots_left(TideDoctor *d, const char *id)
{
	long long own = tide_json_int(d->rows, "region_id");

	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		const json_t *slots = json_object_get(peer->rows, "slots");

		for (size_t i = 0; i < json_array_size(slots); i++)
		{
			const json_t *slot = json_array_get(slots, i);
			const char *name = tide_json_text(slot, "name");

			if (strncmp(name, SLOT_PREFIX, strlen(SLOT_PREFIX)) != 0 ||
				slot_region_id(name) != own ||
				tide_doctor_member(json_object_get(d->rows, "lanes"), "slot", name) != NULL)
				continue;
			orphan(d, id, peer->region, tide_doctor_printf(d, "in region \"%s\"", peer->region),
				   slot, "this region has no such link");
		}
	}
}

/* Who takes rows from a broker has no slot of its own: the one here waits for him. */
static const char *
why_in_vain(TideDoctor *d, const char *region, const TidePeer *peer, const json_t *taker)
{
	const json_t *link;

	if (peer == NULL)
		return "no region known here is called so";
	if (peer->rows == NULL)
		return tide_json_int(taker, "silent") > SILENT_S
				   ? "it has not been heard of for over 15 minutes, and can't be asked"
				   : NULL;
	link = tide_doctor_member(json_object_get(peer->rows, "links"), "region",
							  tide_json_text(d->rows, "region"));
	if (link == NULL)
		return tide_doctor_printf(d, "region \"%s\" has no such link", region);
	if (tide_doctor_same(tide_json_text(link, "transport"), "direct"))
		return tide_doctor_printf(d, "region \"%s\" takes them by a direct link", region);
	return NULL;
}

static void
keeps_for(TideDoctor *d, const char *id, const char *subject, const json_t *taker, const char *why,
		  const char *where)
{
	tide_doctor_report(
		d, TIDE_DOCTOR_WARN, id, subject,
		tide_doctor_printf(d, "%s keeps WAL for %s", tide_json_text(taker, "pipeline"), why),
		tide_doctor_printf(
			d, "if it takes no rows by a broker any more: %s: SELECT tide.rows_leave('%s')", where,
			tide_json_text(taker, "region")));
}

static void
check_takers_here(TideDoctor *d, const char *id)
{
	const json_t *takers = json_object_get(d->rows, "destinations");

	for (size_t i = 0; i < json_array_size(takers); i++)
	{
		const json_t *taker = json_array_get(takers, i);
		const char *region = tide_json_text(taker, "region");
		const char *why = why_in_vain(d, region, peer_named(d, region), taker);

		if (why != NULL)
			keeps_for(d, id, region, taker, tide_doctor_printf(d, "it: %s", why), "here");
	}
}

/* Other regions that wait for this one, which takes nothing from them by a broker. */
static void
check_takers_left(TideDoctor *d, const char *id)
{
	const char *here = tide_json_text(d->rows, "region");

	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		const json_t *taker = tide_doctor_member(json_object_get(peer->rows, "destinations"),
												 "region", here);

		if (taker == NULL || (peer->link != NULL &&
							  !tide_doctor_same(tide_json_text(peer->link, "transport"), "direct")))
			continue;
		keeps_for(d, id, peer->region, taker, "this region, which has no such link",
				  tide_doctor_printf(d, "in region \"%s\"", peer->region));
	}
}

void
tide_doctor_check_orphans(TideDoctor *d, const char *id)
{
	check_slots_here(d, id);
	check_slots_left(d, id);
	check_takers_here(d, id);
	check_takers_left(d, id);
}
