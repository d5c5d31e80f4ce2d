# PgTide::Cuts
#		The link between the regions cut for longer than streams remember duplicates.
#
# Owns: what 240 and 241 share.
package PgTide::Cuts;

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use PgTide::Faults;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

my $WINDOW = 2;        # seconds: the streams' duplicate window
my $CUT = 8;           # seconds: how long a cut lasts, at least
my $EACH_SIDE = 200;    # events published meanwhile, at least

# What has arrived, once what was on its way when the link was cut has, too.
sub settled_arrivals
{
	my ($pair) = @_;
	my ($before, %now) = ('');
	for (1 .. 20)
	{
		%now = map { $_ => $pair->arrived($_) } qw(us eu);
		last if "@now{qw(us eu)}" eq $before;
		$before = "@now{qw(us eu)}";
		sleep 1;
	}
	return %now;
}

# A relay killed after it has published and before it could write that down, that comes back when
# the stream has forgotten, too, what it has: so the same events get into the stream again.
sub forget
{
	my ($pair, $side) = @_;
	my $node = $pair->{region}{$side};
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK TABLE tide.position_0, tide.position_1 IN SHARE MODE');
	my $waits = wait_until(
		sub {
			$pair->tend_load;
			return $node->safe_psql('postgres', <<~'END') > 0;
				SELECT count(*) FROM pg_stat_activity
				WHERE wait_event_type = 'Lock' AND query LIKE '%tide.position_save%' AND usename = 'relay'
				END
		},
		30,
		"the relay of $side to save its position");
	ok(defined $waits, "$side: published and not written down");
	$pair->relay($side)->kill9;
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'relay'});
	$session->quit;
	return;
}

sub cut
{
	my ($pair, $how, $cut, $heal) = @_;
	my $wan = $pair->wan;
	$cut->($wan);
	my %before = settled_arrivals($pair);
	my $start = time;
	if (!$pair->{direct})
	{
		forget($pair, $_) for qw(us eu);
		sleep $WINDOW + 1;
		$pair->start_relay($_) for qw(us eu);
	}
	$pair->load($_)->wait_for($EACH_SIDE) for qw(us eu);
	my $left = $CUT - (time - $start);
	sleep $left if $left > 0;
	my %after = map { $_ => $pair->arrived($_) } qw(us eu);
	$heal->($wan);
	my @stuck = grep { !defined $pair->wait_arrivals($_, 2 * $EACH_SIDE, $PgTide::Test::HEAL_LIMIT) } qw(us eu);
	is("@stuck", '', "$how: events flow both ways after it");
	return (\%before, \%after);
}

# That events really came twice, and were dropped.  To which side is a matter of timing: what a side had
# written down before its relay was killed does not come again.
sub came_twice
{
	my ($pair, $how) = @_;
	return if $pair->{direct};
	my $twice = sub {
		my %n = map { $_ => $pair->relay($_)->metric('pg_tide_events_deduplicated_total', qr/pipeline="in"/) } qw(us eu);
		return $n{us} + $n{eu} > 0;
	};
	ok(defined wait_until($twice, 30, 'duplicates'), "$how: events came twice and were dropped");
	return;
}

sub run
{
	my (%args) = @_;
	plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

	my $pair = PgTide::Faults->new(
		%args,
		sink => $args{form} eq 'direct' ? {} : { duplicate_window => $WINDOW });
	$pair->start_load;
	$pair->start_relays;
	my @stuck = grep { !defined $pair->wait_arrivals($_, 20) } qw(us eu);
	is("@stuck", '', 'events flow both ways');

	for my $case (
		[ 'cut cleanly', sub { $_[0]->cut_cleanly }, sub { $_[0]->heal_cleanly } ],
		[ 'a black hole', sub { $_[0]->cut }, sub { $_[0]->heal } ])
	{
		my ($before, $after) = cut($pair, @$case);
		is_deeply($after, $before, "$case->[0]: nothing passes");
		came_twice($pair, $case->[0]);
	}
  SKIP:
	{
		skip(PgTide::Wan->why_no_delay, 1) if PgTide::Wan->why_no_delay;
		cut($pair, 'a black hole one way', sub { $_[0]->cut('ab') }, sub { $_[0]->heal('ab') });
	}
	$pair->stop_load;
	$pair->verdict('after three cuts');
	is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
	done_testing();
	return;
}

1;
