# The rig itself: sandbox, WAN, and the two NATS topologies, before pg_tide comes into play.
# What is asserted here is what every other test relies on.
#
# Runs alone: delays of a link are measured in milliseconds.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use PgTide::Nats;
use PgTide::Process;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

# Answers each connection with one line, in eu's namespace.
my $echo = q{
	use IO::Socket::INET;
	my $s = IO::Socket::INET->new(Listen => 50, LocalPort => 5000, ReuseAddr => 1) or die "$!";
	while (my $c = $s->accept) { print $c "hello\n"; close $c; }
};
# Connects count times with a limit each; prints how many answered and the median time in ms.
my $probe = q{
	use IO::Socket::INET; use Time::HiRes qw(time);
	my @ms;
	for (1 .. $ARGV[0]) {
		my $t = time;
		my $c = IO::Socket::INET->new(PeerAddr => 'nats-eu:5000', Timeout => $ARGV[1]) or next;
		push @ms, (time - $t) * 1000;
	}
	@ms = sort { $a <=> $b } @ms;
	printf "%d %.1f\n", scalar @ms, $ms[@ms / 2] // -1;
};

sub probe
{
	my ($count, $limit) = @_;
	my @command = PgTide::Process::in_netns('tide_us', $^X, '-e', $probe, $count, $limit);
	open my $pipe, '-|', @command or die "$!";
	my ($answered, $ms) = split / /, scalar <$pipe>;
	return ($answered, $ms + 0);
}

# From us into the void of eu, at a pace no queue objects to.
sub send_datagrams
{
	my ($count) = @_;
	my $send = q{
		use IO::Socket::INET; use Time::HiRes qw(sleep);
		my $s = IO::Socket::INET->new(PeerAddr => 'nats-eu:5001', Proto => 'udp') or die "$!";
		for (1 .. $ARGV[0]) { $s->send('x'); sleep 0.0005; }
	};
	system(PgTide::Process::in_netns('tide_us', $^X, '-e', $send, $count));
	return;
}

sub test_wan
{
	my ($wan) = @_;
	my $server = PgTide::Process->new(
		name    => 'echo',
		netns   => 'tide_eu',
		log     => "$ENV{TIDE_DATA}/echo.log",
		command => [ $^X, '-e', $echo ])->start;
	ok(defined wait_until(sub { (probe(1, 1))[0] == 1 }, 10, 'the echo server'),
		'a server in eu is reachable from us by name');

	my ($answered, $ms) = probe(20, 2);
	cmp_ok($ms, '<', 20, 'without delay a connection takes next to no time');

  SKIP:
	{
		skip(PgTide::Wan->why_no_delay, 4) if PgTide::Wan->why_no_delay;
		$wan->delay(50);
		($answered, $ms) = probe(5, 2);
		cmp_ok($ms, '>=', 100, 'with 50 ms each way a connection takes a round trip');
		cmp_ok($ms, '<', 160, '... and not much more');
		$wan->delay(0);

		$wan->loss(30);
		my $before = $wan->stats;
		send_datagrams(1000);
		my $after = $wan->stats;
		my $lost = $after->{ab}{lost} - $before->{ab}{lost};
		my $sent = $lost + $after->{ab}{forwarded} - $before->{ab}{forwarded};
		cmp_ok(abs($lost / $sent - 0.3), '<', 0.06, "of $sent packets, $lost were lost at 30 %");
		$wan->loss(0);

		eval { $wan->command('nonsense') };
		like($@, qr/unknown command/, 'the WAN program refuses what it does not know');
	}

	$wan->cut('ba');
	is((probe(1, 1))[0], 0, 'with answers cut no connection comes about');
	$wan->heal('ba');
	is((probe(3, 3))[0], 3, 'healed, it does');
	$wan->cut;
	is((probe(1, 1))[0], 0, 'cut, nothing passes');
	$wan->heal;
	is((probe(3, 3))[0], 3, 'healed, all pass');

	$wan->cut_cleanly;
	my $start = time;
	is((probe(1, 5))[0], 0, 'cut cleanly, nothing passes');
	cmp_ok(time - $start, '<', 2, '... and the client is told at once');
	$wan->heal_cleanly;
	is((probe(3, 3))[0], 3, 'healed, all pass');
	$server->stop;
	return;
}

# A region's stream takes its own subjects and sources the other's: what the relay sets up, by hand.
sub make_stream
{
	my ($servers, $side) = @_;
	my ($here, $there) = $side eq 'us' ? qw(us-east eu-west) : qw(eu-west us-east);
	$servers->{$side}->ctl('stream-create', 'ORDERS',
		    qq({"name":"ORDERS","subjects":["orders.*.$here"],"storage":"file",)
		  . qq("sources":[{"name":"ORDERS","filter_subject":"orders.*.$there",)
		  . qq("external":{"api":"\$JS.$there.API","deliver":""}}]}));
	return;
}

sub publish
{
	my ($servers, $side, $count, $what) = @_;
	my $region = $side eq 'us' ? 'us-east' : 'eu-west';
	$servers->{$side}->ctl('--js', '--count', $count, '--msg-id', "$what-$side-{n}",
		'pub', "orders.insert.$region", '{"n": {n}}');
	return;
}

sub test_topology
{
	my ($form, $wan) = @_;
	my $servers = PgTide::Nats->$form($wan);
	ok(PgTide::Nats->wait_joined($servers), "$form: both regions' JetStreams see each other");
	make_stream($servers, $_) for qw(us eu);
	publish($servers, $_, 10, 'before') for qw(us eu);
	for my $side (qw(us eu))
	{
		ok(defined wait_until(sub { $servers->{$side}->stream_messages('ORDERS') == 20 },
				30, "$side has both regions' messages"), "$form: $side has both regions' messages");
	}

	$wan->cut;
	publish($servers, $_, 30, 'during') for qw(us eu);
	is($servers->{$_}->stream_messages('ORDERS'), 50, "$form: cut, $_ goes on by itself")
	  for qw(us eu);
	$wan->heal;
	for my $side (qw(us eu))
	{
		my $took = wait_until(sub { $servers->{$side}->stream_messages('ORDERS') == 80 },
			$PgTide::Test::HEAL_LIMIT, "$side catches up");
		ok(defined $took, "$form: healed, $side catches up");
		note(sprintf '%s: %s caught up after %.1f s', $form, $side, $took // -1);
	}
	my $ack = $servers->{us}->ctl('--js', '--msg-id', 'during-us-1', 'pub', 'orders.insert.us-east', '{}');
	ok($ack->{duplicate}, "$form: a message sent twice is told to be a duplicate");
	$_->stop for values %$servers;
	return;
}

my $wan = PgTide::Wan->new;
test_wan($wan);
test_topology('leaf', $wan);
test_topology('hub', $wan);
$wan->stop;

done_testing();
