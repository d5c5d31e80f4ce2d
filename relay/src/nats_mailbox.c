/*
 * nats_mailbox.c
 *		Messages of several subscriptions in one queue, with a file descriptor to poll.
 *
 * Owns: see nats_mailbox.h.
 *
 * libnats may call back until a subscription is completely gone, which is some
 * time after the connection was closed.  So the queue is counted: the owner
 * holds it, and every subscription until its last act.
 */
#include "nats_mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mem.h"

#define FIRST_SIZE 64 /* a power of two */

typedef struct Letter
{
	natsMsg *msg;
	int tag;
} Letter;

struct TideMailbox
{
	TideNats *nats; /* the owner's thread only */
	pthread_mutex_t lock;
	int references;
	bool closed;
	int fd;
	Letter *letters; /* ring of size entries, a power of two */
	size_t size;
	size_t first;
	size_t n;
};

/* What a subscription knows. */
typedef struct Slit
{
	TideMailbox *box;
	int tag;
} Slit;

static void
release(TideMailbox *box)
{
	int left;

	pthread_mutex_lock(&box->lock);
	left = --box->references;
	pthread_mutex_unlock(&box->lock);
	if (left > 0)
		return;
	for (size_t i = 0; i < box->n; i++)
		natsMsg_Destroy(box->letters[(box->first + i) & (box->size - 1)].msg);
	free(box->letters);
	if (box->fd >= 0)
		close(box->fd);
	pthread_mutex_destroy(&box->lock);
	free(box);
}

bool
tide_mailbox_new(TideNats *nats, TideMailbox **out, TideError *err)
{
	TideMailbox *box = tide_zalloc(sizeof(*box));

	*out = NULL;
	box->nats = nats;
	box->references = 1;
	box->size = FIRST_SIZE;
	box->letters = tide_malloc(box->size * sizeof(Letter));
	pthread_mutex_init(&box->lock, NULL);
	box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (box->fd < 0)
	{
		tide_error(err, TIDE_ERR_UNAVAILABLE, "", "could not make a file descriptor: %s",
				   strerror(errno));
		release(box);
		return false;
	}
	*out = box;
	return true;
}

void
tide_mailbox_free(TideMailbox *box)
{
	if (box == NULL)
		return;
	pthread_mutex_lock(&box->lock);
	box->closed = true;
	pthread_mutex_unlock(&box->lock);
	release(box);
}

static void
grow(TideMailbox *box)
{
	Letter *larger = tide_malloc(box->size * 2 * sizeof(Letter));

	for (size_t i = 0; i < box->n; i++)
		larger[i] = box->letters[(box->first + i) & (box->size - 1)];
	free(box->letters);
	box->letters = larger;
	box->first = 0;
	box->size *= 2;
}

/* In a thread of libnats. */
static void
on_message(natsConnection *conn, natsSubscription *sub, natsMsg *msg, void *closure)
{
	const Slit *slit = closure;
	TideMailbox *box = slit->box;
	const uint64_t one = 1;
	bool closed;

	(void) conn;
	(void) sub;
	pthread_mutex_lock(&box->lock);
	closed = box->closed;
	if (!closed)
	{
		if (box->n == box->size)
			grow(box);
		box->letters[(box->first + box->n++) & (box->size - 1)] = (Letter){msg, slit->tag};
		/* Only an overflow could fail, which needs as many messages as there are numbers. */
		if (box->n == 1 && write(box->fd, &one, sizeof(one)) < 0)
			box->closed = true;
	}
	pthread_mutex_unlock(&box->lock);
	if (closed)
		natsMsg_Destroy(msg);
}

static void
slit_free(void *closure)
{
	Slit *slit = closure;

	release(slit->box);
	free(slit);
}

bool
tide_mailbox_subscribe(TideMailbox *box, const char *subject, int tag, TideError *err)
{
	Slit *slit = tide_zalloc(sizeof(*slit));
	natsSubscription *sub = NULL;
	natsStatus s;

	slit->box = box;
	slit->tag = tag;
	pthread_mutex_lock(&box->lock);
	box->references++;
	pthread_mutex_unlock(&box->lock);
	s = natsConnection_Subscribe(&sub, tide_nats_connection(box->nats), subject, on_message, slit);
	if (s != NATS_OK)
	{
		slit_free(slit);
		return tide_nats_error(box->nats, s, "subscribing", err);
	}
	tide_nats_own(box->nats, sub);
	s = natsSubscription_SetOnCompleteCB(sub, slit_free, slit);
	if (s == NATS_OK)
		s = natsSubscription_SetPendingLimits(sub, -1, -1);
	return s == NATS_OK || tide_nats_error(box->nats, s, "subscribing", err);
}

int
tide_mailbox_fd(const TideMailbox *box)
{
	return box->fd;
}

bool
tide_mailbox_take(TideMailbox *box, natsMsg **msg, int *tag)
{
	uint64_t count;
	bool got;

	pthread_mutex_lock(&box->lock);
	got = box->n > 0;
	if (got)
	{
		const Letter *letter = &box->letters[box->first];

		*msg = letter->msg;
		*tag = letter->tag;
		box->first = (box->first + 1) & (box->size - 1);
		box->n--;
	}
	/* Raised once when the first message came, lowered once when the last one is taken. */
	if (got && box->n == 0 && read(box->fd, &count, sizeof(count)) < 0)
		count = 0;
	pthread_mutex_unlock(&box->lock);
	return got;
}

bool
tide_mailbox_alive(const TideMailbox *box, TideError *err)
{
	natsConnection *conn = tide_nats_connection(box->nats);

	if (!natsConnection_IsClosed(conn))
		return true;
	return tide_nats_error(box->nats, NATS_CONNECTION_CLOSED, "waiting for a message", err);
}
