# PgTide::RowKills
#		Relays and servers of a mesh killed with -9 at random points under load; then every table compared.
#
# Owns: what 440, 448 and 449 share.
package PgTide::RowKills;

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use PgTide::Mesh;
use PgTide::RowLoad;
use PgTide::Test qw(wait_until);

# From before anything is opened to the middle of the flow.
my $LONGEST_LIFE = 1.0;

# name => [weight, what it does to a side]
my @KINDS = (
	[ 'relay', 65, \&kill_relay ],
	[ 'server', 15, \&kill_server ],
	[ 'backend', 15, \&kill_backend ],
	[ 'broker', 5, \&kill_broker ]);

sub kill_relay
{
	my ($mesh, $side) = @_;
	my $relay = $mesh->relay($side);
	die "the relay of $side ended by itself:\n" . $relay->log_text unless $relay->alive;
	$relay->kill9;
	sleep rand(0.2);
	$mesh->start_relay($side, wait => 0);
	return;
}

# The postmaster and all it started, with power loss in mind: SIGKILL, not a shutdown.
sub kill_server
{
	my ($mesh, $side) = @_;
	my $node = $mesh->node($side);
	$node->kill9;
	sleep rand(0.3);
	start_again($node);
	return;
}

# What the postmaster left behind needs a moment to notice that it is alone.
sub start_again
{
	my ($node) = @_;
	defined wait_until(sub { $node->start(fail_ok => 1) }, 30, 'the server to start again')
	  or die 'a killed server does not start again';
	return;
}

# As psql() does it.  One that loses its server before it has read the query makes IPC::Run die of a broken pipe.
sub ask
{
	my ($node, $query) = @_;
	my @answer = eval { $node->psql('postgres', $query) };
	die $@ if $@ && $@ !~ /Broken pipe/;
	return @answer ? @answer : (2, '');
}

# One process of the relay's in the server; the server restarts itself.
sub kill_backend
{
	my ($mesh, $side) = @_;
	my $node = $mesh->node($side);
	my $CHECKPOINTER = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
	my ($status, $pids) = ask($node, <<~"END");
		SELECT pid, ($CHECKPOINTER) FROM pg_stat_activity WHERE usename = 'relay' ORDER BY random() LIMIT 1
		END
	my ($pid, $before) = split /\|/, $pids // '';
	return unless $status == 0 && $pid && kill 'KILL', $pid;
	# It answers for a moment still; then all processes are new ones.
	wait_until(
		sub {
			my ($down, $now) = ask($node, $CHECKPOINTER);
			return $down == 0 && $now && $now != $before;
		},
		30,
		"$side to be back");
	return;
}

sub kill_broker
{
	my ($mesh, $side) = @_;
	return kill_relay($mesh, $side) unless $mesh->nats($side);
	$mesh->nats($side)->kill9;
	sleep rand(0.3);
	$mesh->nats($side)->start;
	return;
}

sub pick
{
	my $sum = 0;
	$sum += $_->[1] for @KINDS;
	my $at = rand $sum;
	for my $kind (@KINDS)
	{
		$at -= $kind->[1];
		return $kind if $at < 0;
	}
	return $KINDS[0];
}

# Transactions of other regions that a side has.
sub foreign
{
	my ($load, $side) = @_;
	my $sum = 0;
	$sum += $load->count($side, $_) for $load->{mesh}->others($side);
	return $sum;
}

# kills: how many; sides, transport: as for PgTide::Mesh; limit: seconds it may take (600).
sub run
{
	my (%args) = @_;
	my $seed = $ENV{TIDE_SEED} // time ^ $$;
	note "seed $seed (TIDE_SEED=$seed repeats it)";
	srand $seed;
	my $mesh = PgTide::Mesh->new(%args, conf => "restart_after_crash = on\n");
	my $load = PgTide::RowLoad->new(mesh => $mesh, rate => 40);
	$mesh->link_all;
	$mesh->start_relays;
	my @wait = grep { !defined $mesh->wait_copied(@$_, 120) } $mesh->ways;
	is(join(' ', map { "$_->[1]->$_->[0]" } @wait), '', 'every table has its first copy');
	$load->start;
	my @idle = grep { !defined $load->wait_arrivals($_->[1], $_->[0], 1, 90) } $mesh->ways;
	is(join(' ', map { "$_->[1]->$_->[0]" } @idle), '', 'rows flow in all directions');

	my (%killed, %flowed);
	my %before = map { $_ => foreign($load, $_) } $mesh->sides;
	my $until = time + ($args{limit} // 600);
	my $kills = 0;
	while ($kills < $args{kills} && time < $until)
	{
		my $side = ($mesh->sides)[ rand $mesh->sides ];
		sleep rand $LONGEST_LIFE;
		my $kind = pick();
		$kind->[2]->($mesh, $side);
		$killed{"$kind->[0] of $side"}++;
		$kills++;
		$load->tend;
		my $now = foreign($load, $side);
		$flowed{$side}++ if $now > $before{$side};
		$before{$side} = $now;
	}
	note "killed: ", join ', ', map { "$_ $killed{$_}" } sort keys %killed;
	note 'rows had come since the kill before: ', join ', ', map { "$_ $flowed{$_}" } sort keys %flowed;
	is($kills, $args{kills}, "$args{kills} kills");
	cmp_ok($flowed{$_} // 0, '>=', $kills / 20, "rows came to $_ in between, so kills hit work") for $mesh->sides;
	$load->stop;
	$mesh->settle('every region has what the others committed', 180);
	$mesh->same_tables("after $kills kills: every table is the same, byte for byte", \@PgTide::RowLoad::TABLES);
	$mesh->nothing_special('nothing was parked, nothing was copied twice');
	is_deeply($mesh->stop, { map { $_ => 0 } $mesh->sides }, 'the relays end with status 0');
	done_testing();
	return;
}

1;
