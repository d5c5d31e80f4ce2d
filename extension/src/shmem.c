/*
 * shmem.c
 *		Shared memory: pieces that modules ask for while the server starts.
 *
 * Owns: the two hooks, and the list of pieces.  Does not own: what is in them.
 *
 * Not preloaded, there is none: modules must do without.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "pg_tide.h"

#define MAX_PIECES 4

typedef struct Piece
{
	const char *name;
	Size size;
	TideShmemAttach attach;
} Piece;

static Piece pieces[MAX_PIECES];
static int n_pieces = 0;
static shmem_request_hook_type prev_request_hook = NULL;
static shmem_startup_hook_type prev_startup_hook = NULL;

static void
request_all(void)
{
	if (prev_request_hook)
		prev_request_hook();
	for (int i = 0; i < n_pieces; i++)
		RequestAddinShmemSpace(MAXALIGN(pieces[i].size));
}

static void
attach_all(void)
{
	if (prev_startup_hook)
		prev_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < n_pieces; i++)
	{
		bool found;
		void *place = ShmemInitStruct(pieces[i].name, pieces[i].size, &found);

		pieces[i].attach(place, !found);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
tide_shmem_reserve(const char *name, Size size, TideShmemAttach attach)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	if (n_pieces == MAX_PIECES)
		elog(ERROR, "pg_tide has more than %d pieces of shared memory", MAX_PIECES);
	if (n_pieces == 0)
	{
		prev_request_hook = shmem_request_hook;
		shmem_request_hook = request_all;
		prev_startup_hook = shmem_startup_hook;
		shmem_startup_hook = attach_all;
	}
	pieces[n_pieces++] = (Piece){name, size, attach};
}
