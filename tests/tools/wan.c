/*
 * wan.c
 *		A wide-area network between two network namespaces, in user space.
 *
 * Owns: one TUN device in each namespace and a queue of packets in each
 * direction, through which delay, jitter, loss, rate and cuts are made.  Does
 * not own: the namespaces (made before, removed after, by whoever starts us).
 *
 * Why not the kernel's netem: many kernels are built without it, and a cut
 * must be possible in one direction only, at a word, without touching routes.
 *
 * Control: one command a line on standard input, each answered by "ok" or
 * "error REASON" on standard output, after "ready" once the devices exist.
 * End of input ends the program, so a dead test leaves no network behind.
 * Within a direction packets never overtake each other, as on one path.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define WAN_MTU 1500
#define WAN_MAX_QUEUED 20000	  /* packets per direction; more are dropped, as a router would */
#define WAN_MAX_BACKLOG_US 200000 /* what a rate limit may queue before it drops */
#define WAN_BURST 64			  /* packets read from one device before the other has its turn */

typedef struct Packet
{
	struct Packet *next;
	int64_t due_us;
	size_t len;
	unsigned char data[];
} Packet;

/* One direction. */
typedef struct Lane
{
	const char *name; /* "ab" or "ba" */
	int in;			  /* device packets come from */
	int out;		  /* device they go to */
	bool cut;
	Packet *head;
	Packet *tail;
	int n_queued;
	int64_t last_due_us; /* no packet is due before the one ahead of it */
	int64_t busy_us;	 /* the rate limit lets the next packet start then */
	uint64_t forwarded;
	uint64_t lost;
	uint64_t overflowed;
} Lane;

typedef struct Wan
{
	Lane lanes[2];
	double delay_ms; /* one way */
	double jitter_ms;
	double loss_percent;
	double rate_mbit; /* 0: unlimited */
	uint64_t random;
	char line[256];
	size_t line_len;
	bool quit;
} Wan;

typedef struct Command
{
	const char *name;
	int min_args;
	int max_args;
	bool (*run)(Wan *wan, int n_args, char **args); /* false: wrong argument */
} Command;

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Uniform in [0, 1); xorshift is plenty for dropping packets. */
static double
random_unit(Wan *wan)
{
	wan->random ^= wan->random << 13;
	wan->random ^= wan->random >> 7;
	wan->random ^= wan->random << 17;
	return (double) (wan->random >> 11) / 9007199254740992.0;
}

static void
fatal(const char *what, const char *name)
{
	fprintf(stderr, "wan: %s %s: %s\n", what, name, strerror(errno));
	exit(1);
}

/* ---- devices ---- */

static void
set_address(int sock, struct ifreq *req, unsigned long request, uint32_t address)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = address};

	memcpy(&req->ifr_addr, &sin, sizeof(sin));
	if (ioctl(sock, request, req) != 0)
		fatal("cannot set the address of", req->ifr_name);
}

/* "10.0.0.1/24"; ends the program if it is anything else. */
static void
parse_cidr(const char *cidr, struct in_addr *ip, uint32_t *netmask)
{
	char address[32];
	char *end = NULL;
	const char *slash = strchr(cidr, '/');
	long bits = slash != NULL ? strtol(slash + 1, &end, 10) : 0;

	snprintf(address, sizeof(address), "%.*s", (int) strcspn(cidr, "/"), cidr);
	if (bits < 1 || bits > 32 || *end != '\0' || inet_pton(AF_INET, address, ip) != 1)
	{
		errno = EINVAL;
		fatal("not an address with a length:", cidr);
	}
	*netmask = htonl((uint32_t) (0xffffffffULL << (32 - bits)));
}

/* Gives the device its address and its MTU, and turns it on. */
static void
configure_device(const char *device, const char *cidr)
{
	struct ifreq req = {0};
	struct in_addr ip;
	uint32_t netmask;
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	parse_cidr(cidr, &ip, &netmask);
	snprintf(req.ifr_name, IFNAMSIZ, "%s", device);
	set_address(sock, &req, SIOCSIFADDR, ip.s_addr);
	set_address(sock, &req, SIOCSIFNETMASK, netmask);
	req.ifr_mtu = WAN_MTU;
	if (ioctl(sock, SIOCSIFMTU, &req) != 0)
		fatal("cannot set the MTU of", device);
	req.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(sock, SIOCSIFFLAGS, &req) != 0)
		fatal("cannot turn on", device);
	close(sock);
}

static int
open_tun(const char *device)
{
	struct ifreq req = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	snprintf(req.ifr_name, IFNAMSIZ, "%s", device);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &req) != 0)
		fatal("cannot make the TUN device", device);
	return fd;
}

/* Makes the device inside the named namespace and comes back; the descriptor works from anywhere. */
static int
make_device(const char *netns, const char *device, const char *cidr)
{
	char path[256];
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int away;
	int tun;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	away = open(path, O_RDONLY | O_CLOEXEC);
	if (away < 0 || setns(away, CLONE_NEWNET) != 0)
		fatal("cannot enter", path);
	tun = open_tun(device);
	configure_device(device, cidr);
	if (setns(home, CLONE_NEWNET) != 0)
		fatal("cannot leave", path);
	close(home);
	close(away);
	return tun;
}

/* ---- packets ---- */

/* When the last bit of this packet has left a link of the set rate; -1: its buffer is full. */
static int64_t
pass_rate_limit(const Wan *wan, Lane *lane, int64_t now, size_t len)
{
	int64_t start = lane->busy_us > now ? lane->busy_us : now;
	int64_t done;

	if (wan->rate_mbit <= 0)
		return now;
	done = start + (int64_t) ((double) (len * 8) / wan->rate_mbit);
	if (done - now > WAN_MAX_BACKLOG_US)
		return -1;
	lane->busy_us = done;
	return done;
}

static void
enqueue(Wan *wan, Lane *lane, const unsigned char *data, size_t len, int64_t sent_us)
{
	double jitter = wan->jitter_ms * (random_unit(wan) * 2 - 1);
	double ms = wan->delay_ms + jitter;
	Packet *packet = malloc(sizeof(Packet) + len);

	if (packet == NULL)
		fatal("out of memory in lane", lane->name);
	packet->next = NULL;
	packet->len = len;
	packet->due_us = sent_us + (int64_t) ((ms > 0 ? ms : 0) * 1000);
	if (packet->due_us < lane->last_due_us)
		packet->due_us = lane->last_due_us;
	lane->last_due_us = packet->due_us;
	memcpy(packet->data, data, len);
	if (lane->tail != NULL)
		lane->tail->next = packet;
	else
		lane->head = packet;
	lane->tail = packet;
	lane->n_queued++;
}

/* One packet's fate: lost, dropped by a full buffer, or under way. */
static void
admit(Wan *wan, Lane *lane, const unsigned char *data, size_t len)
{
	int64_t sent;

	if (lane->cut || (wan->loss_percent > 0 && random_unit(wan) * 100 < wan->loss_percent))
	{
		lane->lost++;
		return;
	}
	sent = lane->n_queued < WAN_MAX_QUEUED ? pass_rate_limit(wan, lane, now_us(), len) : -1;
	if (sent < 0)
		lane->overflowed++;
	else
		enqueue(wan, lane, data, len, sent);
}

static void
read_packets(Wan *wan, Lane *lane)
{
	unsigned char data[65536];

	for (int i = 0; i < WAN_BURST; i++)
	{
		ssize_t len = read(lane->in, data, sizeof(data));

		if (len <= 0)
			return;
		admit(wan, lane, data, (size_t) len);
	}
}

/* A cut loses what was under way, too. */
static void
deliver_due(Lane *lane, int64_t now)
{
	while (lane->head != NULL && lane->head->due_us <= now)
	{
		Packet *packet = lane->head;

		if (!lane->cut && write(lane->out, packet->data, packet->len) >= 0)
			lane->forwarded++;
		else
			lane->lost++;
		lane->head = packet->next;
		if (lane->head == NULL)
			lane->tail = NULL;
		lane->n_queued--;
		free(packet);
	}
}

/* ---- commands ---- */

static bool
parse_number(const char *text, double *number)
{
	char *end;

	errno = 0;
	*number = strtod(text, &end);
	return end != text && *end == '\0' && errno == 0 && *number >= 0;
}

static bool
run_delay(Wan *wan, int n_args, char **args)
{
	double delay;
	double jitter = 0;

	if (!parse_number(args[0], &delay) || (n_args > 1 && !parse_number(args[1], &jitter)))
		return false;
	wan->delay_ms = delay;
	wan->jitter_ms = jitter;
	return true;
}

static bool
run_loss(Wan *wan, int n_args, char **args)
{
	(void) n_args;
	return parse_number(args[0], &wan->loss_percent);
}

static bool
run_rate(Wan *wan, int n_args, char **args)
{
	(void) n_args;
	return parse_number(args[0], &wan->rate_mbit);
}

/* No argument: both directions. */
static bool
set_cut(Wan *wan, int n_args, char **args, bool cut)
{
	bool found = false;

	for (int i = 0; i < 2; i++)
	{
		if (n_args == 0 || strcmp(args[0], wan->lanes[i].name) == 0)
		{
			wan->lanes[i].cut = cut;
			found = true;
		}
	}
	return found;
}

static bool
run_cut(Wan *wan, int n_args, char **args)
{
	return set_cut(wan, n_args, args, true);
}

static bool
run_heal(Wan *wan, int n_args, char **args)
{
	return set_cut(wan, n_args, args, false);
}

static bool
run_stats(Wan *wan, int n_args, char **args)
{
	(void) n_args;
	(void) args;
	for (int i = 0; i < 2; i++)
	{
		const Lane *lane = &wan->lanes[i];

		printf("%s\"%s\":{\"forwarded\":%llu,\"lost\":%llu,\"overflowed\":%llu}%s",
			   i == 0 ? "{" : ",", lane->name, (unsigned long long) lane->forwarded,
			   (unsigned long long) lane->lost, (unsigned long long) lane->overflowed,
			   i == 1 ? "}\n" : "");
	}
	return true;
}

static bool
run_quit(Wan *wan, int n_args, char **args)
{
	(void) n_args;
	(void) args;
	wan->quit = true;
	return true;
}

static const Command commands[] = {
	{"delay", 1, 2, run_delay}, /* MS [JITTER_MS], one way, both directions */
	{"loss", 1, 1, run_loss},	/* PERCENT */
	{"rate", 1, 1, run_rate},	/* MBIT, 0: unlimited */
	{"cut", 0, 1, run_cut},		/* [ab|ba] drop everything */
	{"heal", 0, 1, run_heal},	/* [ab|ba] */
	{"stats", 0, 0, run_stats}, /* packets so far, as JSON */
	{"quit", 0, 0, run_quit},
};

/* Returns NULL or what is wrong. */
static const char *
run_line(Wan *wan, char *line)
{
	char *words[4];
	int n_words = 0;
	char *rest = line;
	char *word;

	while (n_words < 4 && (word = strsep(&rest, " \t")) != NULL)
	{
		if (*word != '\0')
			words[n_words++] = word;
	}
	if (n_words == 0)
		return "empty command";
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
	{
		const Command *command = &commands[i];
		int n_args = n_words - 1;

		if (strcmp(command->name, words[0]) != 0)
			continue;
		if (n_args < command->min_args || n_args > command->max_args ||
			!command->run(wan, n_args, words + 1))
			return "wrong arguments";
		return NULL;
	}
	return "unknown command";
}

static void
read_commands(Wan *wan)
{
	ssize_t len = read(STDIN_FILENO, wan->line + wan->line_len,
					   sizeof(wan->line) - wan->line_len - 1);
	char *end;

	if (len <= 0)
	{
		wan->quit = true;
		return;
	}
	wan->line_len += (size_t) len;
	wan->line[wan->line_len] = '\0';
	while ((end = strchr(wan->line, '\n')) != NULL)
	{
		const char *wrong;
		size_t used = (size_t) (end - wan->line) + 1;

		*end = '\0';
		wrong = run_line(wan, wan->line);
		printf(wrong == NULL ? "ok\n" : "error %s\n", wrong);
		fflush(stdout);
		wan->line_len -= used;
		memmove(wan->line, wan->line + used, wan->line_len + 1);
	}
}

/* ---- main loop ---- */

/* Waits for a packet, a command, or the time the next packet is due. */
static void
wait_for_work(Wan *wan, struct pollfd *fds)
{
	int64_t due = INT64_MAX;
	struct timespec timeout = {0};

	for (int i = 0; i < 2; i++)
	{
		if (wan->lanes[i].head != NULL && wan->lanes[i].head->due_us < due)
			due = wan->lanes[i].head->due_us;
	}
	if (due != INT64_MAX)
	{
		int64_t left = due - now_us();

		left = left > 0 ? left : 0;
		timeout.tv_sec = left / 1000000;
		timeout.tv_nsec = left % 1000000 * 1000;
	}
	if (ppoll(fds, 3, due == INT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR)
		fatal("cannot", "poll");
}

static void
forward_until_quit(Wan *wan)
{
	struct pollfd fds[3] = {
		{wan->lanes[0].in, POLLIN, 0}, {wan->lanes[1].in, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};

	while (!wan->quit)
	{
		for (int i = 0; i < 2; i++)
			deliver_due(&wan->lanes[i], now_us());
		wait_for_work(wan, fds);
		for (int i = 0; i < 2; i++)
		{
			if (fds[i].revents & POLLIN)
				read_packets(wan, &wan->lanes[i]);
		}
		if (fds[2].revents & (POLLIN | POLLHUP))
			read_commands(wan);
	}
}

int
main(int argc, char **argv)
{
	Wan wan = {.random = 88172645463325252ULL ^ (uint64_t) now_us()};
	const char *device = argc > 5 ? argv[5] : "wan0";
	int a;
	int b;

	if (argc < 5)
	{
		fprintf(stderr, "usage: wan NETNS_A ADDRESS_A/BITS NETNS_B ADDRESS_B/BITS [DEVICE]\n");
		return 2;
	}
	a = make_device(argv[1], device, argv[2]);
	b = make_device(argv[3], device, argv[4]);
	wan.lanes[0] = (Lane){.name = "ab", .in = a, .out = b};
	wan.lanes[1] = (Lane){.name = "ba", .in = b, .out = a};
	printf("ready\n");
	fflush(stdout);
	forward_until_quit(&wan);
	return 0;
}
