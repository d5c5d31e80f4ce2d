# PgTide::PostgresKills
#		Immediate shutdowns of either region's PostgreSQL, and of both, under load.
#
# Owns: what 220 and 221 share.
package PgTide::PostgresKills;

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use PgTide::Faults;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

sub crash
{
	my ($pair, @sides) = @_;
	$pair->{region}{$_}->stop('immediate') for @sides;
	sleep rand(1);
	$pair->{region}{$_}->start for @sides;
	$pair->tend_load;
	return;
}

# Events flow both ways again after a crash.
sub flows_again
{
	my ($pair, $when) = @_;
	my @stuck = grep { !defined $pair->wait_arrivals($_, 20) } qw(us eu);
	is("@stuck", '', "events flow again after $when");
	return;
}

# The batch is committed and in the log, but the relay is never told: the server waits for a
# standby that does not exist, and dies waiting.
sub crash_in_commit
{
	my ($pair, $side) = @_;
	my $node = $pair->{region}{$side};
	$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
	$node->reload;
	my $waiting = wait_until(
		sub {
			$node->safe_psql('postgres', <<~'END') > 0;
				SELECT count(*) FROM pg_stat_activity
				WHERE wait_event = 'SyncRep' AND query LIKE '%tide.inbox_receive%' AND usename = 'relay'
				END
		},
		30,
		"a batch between its commit and the answer at $side");
	ok(defined $waiting, "$side is caught between the inbox's commit and the answer");
	$node->stop('immediate');
	$node->adjust_conf('postgresql.auto.conf', 'synchronous_standby_names', undef);
	$node->start;
	$pair->tend_load;
	return;
}

# A batch is in the middle of its transaction: it waits for a lock on the inbox.
sub crash_before_commit
{
	my ($pair, $side) = @_;
	my $node = $pair->{region}{$side};
	my $session = $node->background_psql('postgres');
	$session->query_safe("BEGIN; LOCK TABLE tide.${PgTide::Faults::INBOX}_inbox IN SHARE MODE");
	my $waiting = wait_until(
		sub {
			$node->safe_psql('postgres', <<~'END') > 0;
				SELECT count(*) FROM pg_stat_activity
				WHERE wait_event_type = 'Lock' AND query LIKE '%tide.inbox_receive%' AND usename = 'relay'
				END
		},
		30,
		"a batch in the middle of its transaction at $side");
	ok(defined $waiting, "$side is caught in the middle of the inbox's transaction");
	$node->stop('immediate');
	eval { $session->quit };
	$node->start;
	$pair->tend_load;
	return;
}

sub run
{
	my (%args) = @_;
	plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

	# Servers wait for standbys only if they could have one.
	my $pair = PgTide::Faults->new(
		%args,
		slow => 0.05,
		conf => "wal_level = replica\nmax_wal_senders = 2\n");
	$pair->start_load;
	$pair->start_relays;
	flows_again($pair, 'the start');
	for my $sides (['us'], ['eu'], ['us'], ['eu'], [qw(us eu)])
	{
		crash($pair, @$sides);
		flows_again($pair, "an immediate shutdown of @$sides");
	}
	for my $side (qw(us eu))
	{
		crash_before_commit($pair, $side);
		flows_again($pair, "an immediate shutdown of $side in a transaction");
		crash_in_commit($pair, $side);
		flows_again($pair, "an immediate shutdown of $side in a commit");
	}
	# No pause to settle in between: the relays are on their way back when it happens again.
	for (1 .. 3)
	{
		crash($pair, rand() < 0.5 ? 'us' : 'eu');
		sleep rand(1);
	}
	$pair->stop_load;
	$pair->verdict('after 12 immediate shutdowns');
	is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
	done_testing();
	return;
}

1;
